/**
 * What a scenario runs in: real nodes of this machine, the VMs on them, and the clients outside.
 * Finds who is meant and waits for what is due. Judges nothing.
 */
import { readdirSync, readFileSync } from "node:fs";
import { Cluster, delay, type NodeProcess, type Program, until } from "../demo/cluster.ts";
import type { Prng } from "../prng.ts";
import { Faults } from "./faults.ts";
import type { MemberRole, TimeRange, Who } from "./grammar.ts";
import type { Scenario } from "./scenario.ts";
import { Store } from "./store.ts";
import { Terms } from "./terms.ts";
import { Watch } from "./watch.ts";

export const worldLimits = {
  /** A VM has a primary again by then, or the scenario fails. */
  primaryMs: 30_000,
  linesMs: 45_000,
  answersMs: 60_000,
  wholeMs: 60_000,
  bootMs: 90_000,
} as const;

const memoryBytes = 128 * 2 ** 20;
const sleepMs = 100;

export interface WorldOptions {
  readonly scenario: Scenario;
  readonly program: Program;
  readonly prng: Prng;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

export class World {
  readonly cluster: Cluster;
  readonly faults: Faults;
  readonly terms: Terms;
  readonly #options: WorldOptions;
  readonly #watches = new Map<string, Watch>();
  readonly #stores = new Map<string, Store>();
  /** Readers that were told through whom to read. */
  readonly #preferred = new Map<string, NodeProcess>();

  constructor(options: WorldOptions) {
    const { scenario, program, say } = options;
    const { nodes, needs } = scenario;
    this.#options = options;
    this.cluster = new Cluster(program, { prefix: "node-mesh-chaos-" });
    this.faults = new Faults({ cluster: this.cluster, nodes, needs, say });
    this.terms = new Terms(() => this.faults.reachable());
  }

  get vmNames(): readonly string[] {
    return this.#options.scenario.vms.map((vm) => vm.name);
  }

  watch(vm: string): Watch {
    const watch = this.#watches.get(vm);
    if (watch === undefined) throw new RangeError(`nobody reads ${vm}`);
    return watch;
  }

  store(vm: string): Store {
    const store = this.#stores.get(vm);
    if (store === undefined) throw new RangeError(`${vm} is not used as a store`);
    return store;
  }

  /** Starts nodes, VMs and readers, and waits until every VM has printed its first line. */
  async open(): Promise<void> {
    const { scenario, say, signal } = this.#options;
    say(`starting nodes ${scenario.nodes.join(", ")}`);
    await this.cluster.start();
    for (const { name, copies, witnesses } of scenario.vms) {
      say(`starting VM ${name}`);
      const images = { kernel: null, initrd: null, cmdline: null, engine: "auto" } as const;
      const request = { name, copies, witnesses, memory_bytes: memoryBytes, ...images };
      await this.cluster.anyBut().client.create(request, { onProgress: () => {}, signal });
      const choose = (failed: NodeProcess | null): NodeProcess => this.#reader(name, failed);
      this.#watches.set(name, new Watch({ vm: name, choose }));
    }
    for (const vm of this.vmNames) {
      await this.watch(vm).moreLines(1, { timeoutMs: worldLimits.bootMs, signal });
    }
  }

  /** The nodes that are meant, at this moment. */
  async resolve(who: readonly Who[]): Promise<NodeProcess[]> {
    const found: NodeProcess[] = [];
    for (const one of who) found.push(...(await this.#resolveOne(one)));
    return [...new Set(found)];
  }

  /** The node of the live copy; waits until there is one. */
  async primaryOf(vm: string): Promise<NodeProcess> {
    const found: NodeProcess[] = [];
    await this.#until(
      () => `a primary of ${vm}`,
      worldLimits.primaryMs,
      async () => {
        const view = await this.#anyReachable().client.vm(vm);
        const node = this.faults.reachable().find((candidate) => candidate.id === view.primary);
        if (node !== undefined) found.push(node);
        return node !== undefined;
      },
    );
    return found[0] as NodeProcess;
  }

  async wait(time: TimeRange): Promise<void> {
    const end = performance.now() + this.#options.prng.between(time.minMs, time.maxMs);
    while (performance.now() < end) {
      this.#options.signal.throwIfAborted();
      await delay(Math.min(sleepMs, Math.max(1, end - performance.now())));
    }
  }

  async waitForLines(vm: string, count: number): Promise<void> {
    const { signal } = this.#options;
    await this.watch(vm).moreLines(count, { timeoutMs: worldLimits.linesMs, signal });
  }

  async waitForAnswers(vm: string, count: number): Promise<void> {
    const store = this.store(vm);
    const target = store.answers + count;
    await this.#until(
      () => `${count} answers of ${vm}`,
      worldLimits.answersMs,
      async () => {
        return store.answers >= target;
      },
    );
  }

  /** As many members as asked for, and each has followed the log to where it is now. */
  async waitUntilWhole(vm: string, timeoutMs: number = worldLimits.wholeMs): Promise<void> {
    let short = "";
    await this.#until(
      () => `${vm} to be whole (${short})`,
      timeoutMs,
      async () => {
        const view = await this.#anyReachable().client.vm(vm);
        const missing = view.members.filter((member) => {
          if (member.role === "witness") return member.chunks < view.chunks;
          const follows = member.state === "live" || member.state === "following";
          return !follows || member.replayed_chunks < view.chunks;
        });
        short = missing.map((member) => `${member.name} is ${member.state}`).join(", ");
        const wanted = view.copies + view.witnesses;
        return missing.length === 0 && view.members.length >= wanted && view.primary !== null;
      },
    );
  }

  /** Who reads through one of these nodes, which have gone silent, turns to another one. */
  moveReaders(from: readonly NodeProcess[]): void {
    for (const watch of this.#watches.values()) {
      if (watch.through !== null && from.includes(watch.through)) watch.move();
    }
  }

  readThrough(vm: string, node: NodeProcess): void {
    this.#preferred.set(vm, node);
    this.watch(vm).move();
    this.#options.say(`${vm} is read through ${node.name}`);
  }

  async useAsStore(vm: string, clients: number): Promise<void> {
    const { prng, say } = this.#options;
    const choose = (): NodeProcess => prng.pick(this.faults.reachable());
    const store = new Store({ vm, clients, choose, prng: prng.fork(), watch: this.watch(vm) });
    this.#stores.set(vm, store);
    await store.open();
    say(`${clients} clients use ${vm} as a store`);
  }

  /** Lifts every fault, and waits until each VM has gone on. */
  async recover(): Promise<void> {
    await this.faults.liftAll();
    const { signal } = this.#options;
    for (const vm of this.vmNames) {
      await this.watch(vm).moreLines(2, { timeoutMs: worldLimits.linesMs, signal });
    }
    for (const store of this.#stores.values()) await store.close();
  }

  /** Ends all nodes in order; what they left that they should not have, or null. */
  async endAndLookForRemains(): Promise<string | null> {
    await this.#closeClients();
    const ends = this.cluster.nodes.map(async (node) => [node.name, await node.stop()] as const);
    const bad = (await Promise.all(ends)).find(([, code]) => code !== 0);
    if (bad !== undefined) return `node ${bad[0]} ended with status ${bad[1]}`;
    const left = processesNaming(this.cluster.directory);
    return left.length === 0 ? null : `processes are left: ${left.join(", ")}`;
  }

  async close(options: { readonly keep: boolean }): Promise<void> {
    await this.#closeClients();
    await this.cluster.end();
    this.faults.close();
    await this.cluster.close(options);
  }

  async #resolveOne(one: Who): Promise<readonly NodeProcess[]> {
    const nodes = this.cluster.nodes;
    switch (one.kind) {
      case "all":
        return nodes;
      case "dead":
        return nodes.filter((node) => !node.alive);
      case "random":
        return [this.#options.prng.pick(this.faults.reachable())];
      case "name":
        return nodes.filter((node) => node.name === one.name);
      case "role":
        return [await this.#inRole(one.vm, one.role)];
    }
  }

  async #inRole(vm: string, role: MemberRole): Promise<NodeProcess> {
    const primary = await this.primaryOf(vm);
    if (role === "primary") return primary;
    const { members } = await this.#anyReachable().client.vm(vm);
    const roleOf = (node: NodeProcess): string =>
      members.find((member) => member.node === node.id)?.role ?? "none";
    const wanted = { backup: "replica", witness: "witness", outsider: "none" }[role];
    const others = this.faults.reachable().filter((node) => node !== primary);
    const fitting = others.filter((node) => roleOf(node) === wanted);
    if (fitting.length === 0) throw new Error(`${vm} has no ${role} that is there`);
    return this.#options.prng.pick(fitting);
  }

  #anyReachable(): NodeProcess {
    const [node] = this.faults.reachable();
    if (node === undefined) throw new Error("no node can be reached");
    return node;
  }

  #reader(vm: string, failed: NodeProcess | null): NodeProcess {
    const reachable = this.faults.reachable();
    const preferred = this.#preferred.get(vm);
    if (preferred !== undefined && preferred !== failed && reachable.includes(preferred)) {
      return preferred;
    }
    const other = reachable.find((node) => node !== failed) ?? reachable[0];
    if (other === undefined) throw new Error("no node can be reached");
    return other;
  }

  async #closeClients(): Promise<void> {
    await Promise.all([...this.#stores.values()].map((store) => store.close()));
    await Promise.all([...this.#watches.values()].map((watch) => watch.close()));
    await this.terms.close();
  }

  async #until(
    what: () => string,
    timeoutMs: number,
    holds: () => Promise<boolean>,
  ): Promise<void> {
    const { signal } = this.#options;
    await until(what, timeoutMs, holds, { signal });
  }
}

/** Processes that have the directory's name among their arguments. */
function processesNaming(directory: string): string[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => {
    if (Number(pid) === process.pid) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory);
    } catch {
      return false;
    }
  });
}
