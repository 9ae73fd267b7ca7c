import assert from "node:assert/strict";
import { type Cluster, caughtUp, type NodeProcess, until } from "../../src/demo/cluster.ts";
import { clusterTest, primaryOf, Reader, runTicker, switchMs } from "./cluster.ts";

const four = ["alpha", "beta", "gamma", "delta"];
const vm = "ticker";

/** The longest time between two pieces of console output that a reader saw. */
class Gaps {
  #lastMs = performance.now();
  longestMs = 0;

  constructor(reader: Reader, signal: AbortSignal) {
    let length = 0;
    const timer = setInterval(() => {
      const now = performance.now();
      if (reader.text.length !== length) {
        length = reader.text.length;
        this.longestMs = Math.max(this.longestMs, now - this.#lastMs);
        this.#lastMs = now;
      }
    }, 1);
    signal.addEventListener("abort", () => clearInterval(timer));
  }
}

/** The node that has no part of the VM. */
async function outsider(cluster: Cluster): Promise<NodeProcess> {
  const view = await cluster.anyBut().client.vm(vm);
  const found = cluster.nodes.find((node) => view.members.every((m) => m.node !== node.id));
  if (found === undefined) throw new RangeError("every node is a member");
  return found;
}

clusterTest("a VM moves to a node that had no part of it, and nothing is lost", four, async (c) => {
  await runTicker(c.anyBut());
  const old = await primaryOf(c, vm);
  const target = await outsider(c);
  const reader = new Reader(c, { vm, first: target });
  await reader.moreTicks(10);
  const stop = new AbortController();
  const gaps = new Gaps(reader, stop.signal);
  const steps: string[] = [];
  const onProgress = (text: string): void => {
    steps.push(text);
  };
  const view = await target.client.move(vm, { to: target.name, from: null }, { onProgress });
  assert.equal(view.primary, target.id);
  assert.equal(steps.length, 4, steps.join());
  assert.deepEqual(view.members.map(({ role }) => role).sort(), ["replica", "replica", "witness"]);
  assert.ok(view.members.every(({ node }) => node !== old.id));
  await until("the old one to clean up", switchMs, async () =>
    (await old.client.status()).copies.every(({ name }) => name !== vm),
  );
  // Back again: the old one may be a member once more, and takes over as a known replica does.
  const back = await old.client.move(vm, { to: null, from: target.name });
  assert.equal(back.primary, old.id, "the only node that has no part of it");
  await reader.moreTicks(10);
  stop.abort();
  await reader.follower.stop();
  assert.equal(reader.fault(), null);
  // Lines come ten times a second; the rest is what handing over cost at a busy moment.
  assert.ok(gaps.longestMs < 3_000, `${gaps.longestMs} ms without a line`);
});

clusterTest("a drained node ends up with nothing, and takes nothing in", four, async (c) => {
  await runTicker(c.anyBut());
  const drained = await primaryOf(c, vm);
  const other = c.anyBut(drained.id);
  const reader = new Reader(c, { vm, first: other });
  await reader.moreTicks(5);
  await other.client.drain(drained.name, true);
  await until(
    "it to be empty",
    60_000,
    async () => (await other.client.vmsOf(drained.id)).length === 0,
  );
  const view = await other.client.vm(vm);
  assert.ok(view.members.every(({ node }) => node !== drained.id));
  const wanted = { name: "wide", copies: 3, witnesses: 1 } as const;
  await assert.rejects(runTicker(other, wanted), /Cannot run VM "wide"/);
  await other.client.drain(drained.name, false);
  await until("it to take VMs again", switchMs, async () => {
    await runTicker(other, wanted);
    return true;
  });
  await reader.moreTicks(5);
  await reader.follower.stop();
  assert.equal(reader.fault(), null);
});

clusterTest(
  "a member that stays away is replaced, and cleans up when it is back",
  [],
  async (c) => {
    for (const name of four) c.add(name, { env: { NODE_MESH_REPLACE_AFTER: "3s" } });
    await c.start();
    await runTicker(c.anyBut());
    const victim = await primaryOf(c, vm);
    const spare = await outsider(c);
    const reader = new Reader(c, { vm, first: spare });
    await reader.moreTicks(10);
    await victim.kill();
    await until("three members again", 60_000, async () => {
      const { members } = await spare.client.vm(vm);
      const isWhole = members.length === 3 && members.every(({ node }) => node !== victim.id);
      return isWhole && members.some(({ node }) => node === spare.id);
    });
    await caughtUp(spare.client, { vm, node: spare.id, timeoutMs: switchMs });
    await victim.start();
    await until("it to learn that it was replaced", switchMs, async () =>
      (await victim.client.status()).copies.every(({ name }) => name !== vm),
    );
    // The next loss is no worse than the first one.
    await (await primaryOf(c, vm)).kill();
    await reader.moreTicks(10);
    await reader.follower.stop();
    assert.equal(reader.fault(), null);
  },
);
