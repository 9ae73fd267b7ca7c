/**
 * Links between nodes are cut and healed by the host's packet filter: nodes in network namespaces
 * of their own, joined by a bridge. Needs root, `ip` and `nft`; otherwise skipped, with the reason.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { Cluster, caughtUp, type NodeProcess, until } from "../../src/demo/cluster.ts";
import { nodeOfRole, primaryOf, program, Reader, runTicker, switchMs } from "./cluster.ts";

const vm = "ticker";
const tag = `nm${process.pid % 10_000}`;

function command(line: string): string {
  const [file, ...args] = line.split(" ");
  return execFileSync(file ?? "", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

function quietly(line: string): void {
  try {
    command(line);
  } catch {
    // It was not there.
  }
}

/** Why this machine cannot have namespaces and filters; null when it can. */
function missing(): string | null {
  try {
    command(`ip netns add ${tag}probe`);
    command(`ip netns exec ${tag}probe nft list ruleset`);
    return null;
  } catch (error) {
    return `network namespaces cannot be used: ${(error as Error).message.split("\n")[0]}`;
  } finally {
    quietly(`ip netns del ${tag}probe`);
  }
}

/** A bridge with one namespace for each node; 10.77.0.N is node N. */
class Network {
  readonly #spaces: string[] = [];

  constructor(count: number) {
    command(`ip netns add ${tag}b`);
    command(`ip -n ${tag}b link add br0 type bridge`);
    command(`ip -n ${tag}b link set br0 up`);
    for (let index = 1; index <= count; index += 1) this.#addSpace(index);
  }

  space(index: number): string {
    return `${tag}n${index}`;
  }

  /** Nothing passes between the two any more; connections stay open and silent. */
  cut(a: number, b: number): void {
    const exec = `ip netns exec ${this.space(a)} nft`;
    command(`${exec} add table ip cut`);
    for (const [chain, side] of [
      ["input", "saddr"],
      ["output", "daddr"],
    ]) {
      command(`${exec} add chain ip cut ${chain} { type filter hook ${chain} priority 0 ; }`);
      command(`${exec} add rule ip cut ${chain} ip ${side} 10.77.0.${b} drop`);
    }
  }

  heal(): void {
    for (const space of this.#spaces) quietly(`ip netns exec ${space} nft flush ruleset`);
  }

  close(): void {
    for (const space of [...this.#spaces, `${tag}b`]) quietly(`ip netns del ${space}`);
  }

  #addSpace(index: number): void {
    const space = this.space(index);
    command(`ip netns add ${space}`);
    this.#spaces.push(space);
    command(`ip -n ${space} link set lo up`);
    command(`ip -n ${tag}b link add v${index} type veth peer name eth0 netns ${space}`);
    command(`ip -n ${tag}b link set v${index} master br0 up`);
    command(`ip -n ${space} addr add 10.77.0.${index}/24 dev eth0`);
    command(`ip -n ${space} link set eth0 up`);
  }
}

const reason = missing();
const options = reason === null ? { timeout: 240_000 } : { skip: reason };

test("links of the primary are cut one by one, and healed", options, async () => {
  const network = new Network(3);
  const cluster = new Cluster(program(), { prefix: "node-mesh-chaos-" });
  let good = false;
  try {
    for (const [index, name] of ["alpha", "beta", "gamma"].entries()) {
      cluster.add(name, { listen: `10.77.0.${index + 1}:4001`, netns: network.space(index + 1) });
    }
    await cluster.start();
    const view = await runTicker(cluster.anyBut());
    const numberOf = (node: NodeProcess): number => cluster.nodes.indexOf(node) + 1;
    const primary = await primaryOf(cluster, vm);
    const witness = nodeOfRole(cluster, view, "witness");
    const backup = nodeOfRole(cluster, view, "replica");
    const reader = new Reader(cluster, { vm, first: witness });
    await reader.moreTicks(5);
    // One link less: the primary still has its witness, and goes on.
    network.cut(numberOf(primary), numberOf(backup));
    await reader.moreTicks(20);
    // Alone: the others go on without it, and what it says reaches nobody.
    network.cut(numberOf(primary), numberOf(witness));
    await until("another primary", switchMs, async () => {
      const now = (await witness.client.vm(vm)).primary;
      return now !== null && now !== primary.id;
    });
    await reader.moreTicks(20);
    network.heal();
    await caughtUp(witness.client, { vm, node: primary.id, timeoutMs: 60_000 });
    await reader.moreTicks(10);
    await reader.follower.stop();
    assert.equal(reader.fault(), null);
    good = true;
  } finally {
    await cluster.close({ keep: !good });
    network.close();
    if (!good) console.error(`evidence: ${cluster.directory}`);
  }
});
