/**
 * What is done to the nodes of a scenario and to the machine under each: their processes, network,
 * disks and clocks. Remembers every fault, so that all can be lifted.
 */
import { type Cluster, type NodeProcess, until } from "../demo/cluster.ts";
import { Clocks } from "./clocks.ts";
import { Disks } from "./disks.ts";
import { Network } from "./network.ts";

/** What faults ask of the machine that runs them, beyond processes. */
export type Need = "network" | "disks" | "clocks";

const port = 4001;
const unmountMs = 10_000;

/** Why this machine cannot have one of them; null when it can have all. */
export function missingHere(needs: ReadonlySet<Need>): string | null {
  const probes = { network: Network.missing, disks: Disks.missing, clocks: Clocks.missing };
  for (const need of needs) {
    const why = probes[need]();
    if (why !== null) return why;
  }
  return null;
}

export interface FaultsOptions {
  readonly cluster: Cluster;
  readonly nodes: readonly string[];
  readonly needs: ReadonlySet<Need>;
  readonly say: (text: string) => void;
}

export class Faults {
  readonly #cluster: Cluster;
  readonly #say: (text: string) => void;
  readonly #network: Network | null;
  readonly #disks: Disks | null;
  readonly #clocks: Clocks | null;
  readonly #paused = new Set<NodeProcess>();
  readonly #isolated = new Set<NodeProcess>();
  readonly #full = new Set<NodeProcess>();
  readonly #broken = new Set<NodeProcess>();

  /** Adds the nodes to the cluster, each with what it needs to be hurt. */
  constructor(options: FaultsOptions) {
    const { cluster, nodes, needs } = options;
    this.#cluster = cluster;
    this.#say = options.say;
    this.#network = needs.has("network") ? new Network(nodes.length) : null;
    this.#clocks = needs.has("clocks") ? new Clocks(`${cluster.directory}/clocks`) : null;
    this.#disks = needs.has("disks") ? new Disks() : null;
    for (const [index, name] of nodes.entries()) this.#addNode(name, index + 1);
  }

  /** Nodes that are there for whoever asks them. */
  reachable(): NodeProcess[] {
    const silent = (node: NodeProcess): boolean =>
      this.#paused.has(node) || this.#isolated.has(node);
    return this.#cluster.nodes.filter((node) => node.alive && node.id !== "" && !silent(node));
  }

  /** All at the same moment, as when the power fails. */
  async kill(nodes: readonly NodeProcess[]): Promise<void> {
    await Promise.all(nodes.map((node) => node.kill()));
    for (const node of nodes) this.#paused.delete(node);
    this.#tell("killed", nodes);
  }

  async stop(nodes: readonly NodeProcess[]): Promise<void> {
    await Promise.all(nodes.map((node) => node.stop()));
    this.#tell("stopped", nodes);
  }

  async start(nodes: readonly NodeProcess[]): Promise<void> {
    const dead = nodes.filter((node) => !node.alive);
    await Promise.all(dead.map((node) => node.start()));
    this.#tell("started", dead);
  }

  pause(nodes: readonly NodeProcess[]): void {
    for (const node of nodes) {
      node.signal("SIGSTOP");
      this.#paused.add(node);
    }
    this.#tell("paused", nodes);
  }

  resume(nodes: readonly NodeProcess[]): void {
    for (const node of nodes) {
      node.signal("SIGCONT");
      this.#paused.delete(node);
    }
    this.#tell("resumed", nodes);
  }

  /** Nothing goes from the first to the second any more. */
  cut(from: readonly NodeProcess[], to: readonly NodeProcess[]): void {
    for (const node of from) {
      for (const target of to.filter((other) => other !== node)) {
        this.#links.cut(this.#numberOf(node), this.#numberOf(target));
      }
    }
    this.#say(`nothing goes from ${namesOf(from)} to ${namesOf(to)} any more`);
  }

  /** Between these nodes and all others nothing goes either way. */
  cutOff(nodes: readonly NodeProcess[]): void {
    for (const node of nodes) {
      for (const other of this.#cluster.nodes.filter((one) => !nodes.includes(one))) {
        this.#links.cut(this.#numberOf(node), this.#numberOf(other));
        this.#links.cut(this.#numberOf(other), this.#numberOf(node));
      }
      this.#isolated.add(node);
    }
    this.#tell("cut off", nodes);
  }

  lose(nodes: readonly NodeProcess[], percent: number): void {
    for (const node of nodes) this.#links.lose(this.#numberOf(node), percent);
    this.#tell(`${percent} % of all packets are lost that are sent by`, nodes);
  }

  slow(nodes: readonly NodeProcess[], rateBits: number): void {
    for (const node of nodes) this.#links.slow(this.#numberOf(node), rateBits);
    this.#tell(`${rateBits / 1000} kbit/s for`, nodes);
  }

  healNetwork(): void {
    if (this.#network === null) return;
    this.#network.heal();
    this.#isolated.clear();
    this.#say("the network is whole again");
  }

  fillDisk(nodes: readonly NodeProcess[]): void {
    for (const node of nodes) {
      this.#hostDisks.fill(node.dataDir);
      this.#full.add(node);
    }
    this.#tell("full: the disk of", nodes);
  }

  freeDisk(nodes: readonly NodeProcess[]): void {
    for (const node of nodes) {
      this.#hostDisks.free(node.dataDir);
      this.#full.delete(node);
    }
    this.#tell("room again: the disk of", nodes);
  }

  breakDisk(nodes: readonly NodeProcess[]): void {
    for (const node of nodes) {
      this.#hostDisks.break(node.dataDir);
      this.#broken.add(node);
    }
    this.#tell("takes no write any more: the disk of", nodes);
  }

  /** A machine with a broken disk is off while that is put in order, and comes back. */
  async mendDisk(nodes: readonly NodeProcess[]): Promise<void> {
    const broken = nodes.filter((node) => this.#broken.has(node));
    for (const node of broken) {
      await node.kill();
      // Its monitors end a moment after it.
      await until(`the disk of ${node.name} to be free`, unmountMs, async () => {
        this.#hostDisks.takeOut(node.dataDir);
        return true;
      });
      this.#hostDisks.mend(node.dataDir);
      this.#broken.delete(node);
      await node.start();
    }
    this.#tell("mended: the disk of", broken);
  }

  turnClock(nodes: readonly NodeProcess[], byMs: number): void {
    if (this.#clocks === null) throw new RangeError("this scenario has no clocks of its own");
    for (const node of nodes) this.#clocks.turn(node.name, byMs);
    this.#tell(`turned by ${byMs / 1000} s: the clock of`, nodes);
  }

  async liftAll(): Promise<void> {
    this.#say("lifting all faults");
    this.resume([...this.#paused]);
    this.healNetwork();
    if (this.#full.size > 0) this.freeDisk([...this.#full]);
    if (this.#broken.size > 0) await this.mendDisk([...this.#broken]);
    this.#clocks?.reset();
    await this.start(this.#cluster.nodes);
  }

  /** What was made of the host; the nodes have ended. */
  close(): void {
    this.#disks?.close();
    this.#network?.close();
  }

  get #links(): Network {
    if (this.#network === null) throw new RangeError("this scenario has no network of its own");
    return this.#network;
  }

  get #hostDisks(): Disks {
    if (this.#disks === null) throw new RangeError("this scenario has no disks of its own");
    return this.#disks;
  }

  #addNode(name: string, number: number): void {
    const network = this.#network;
    const place =
      network === null
        ? {}
        : { listen: `${network.address(number)}:${port}`, netns: network.space(number) };
    const env = this.#clocks?.environment(name) ?? {};
    const node = this.#cluster.add(name, { ...place, env });
    this.#disks?.add(node.dataDir);
  }

  #numberOf(node: NodeProcess): number {
    return this.#cluster.nodes.indexOf(node) + 1;
  }

  #tell(what: string, nodes: readonly NodeProcess[]): void {
    if (nodes.length > 0) this.#say(`${what} ${namesOf(nodes)}`);
  }
}

function namesOf(nodes: readonly NodeProcess[]): string {
  return nodes.map((node) => node.name).join(", ");
}
