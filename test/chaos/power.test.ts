import assert from "node:assert/strict";
import { readFileSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { caughtUp, type NodeProcess, until } from "../../src/demo/cluster.ts";
import { clusterTest, nodeOfRole, primaryOf, Reader, runTicker, switchMs } from "./cluster.ts";

const vm = "ticker";

/** Cuts the newest writes of a node off in the middle, as a disk does that lost power. */
function tear(node: NodeProcess): void {
  const path = join(node.dataDir, "mesh.db-wal");
  const bytes = readFileSync(path);
  // Space that is reserved for later holds zeros.
  const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
  assert.ok(end > 8192, `the write-ahead log has ${end} bytes`);
  truncateSync(path, end - 2500);
}

clusterTest(
  "all lose power at once, one with its newest data torn, and come back one by one",
  ["alpha", "beta", "gamma"],
  async (c) => {
    const view = await runTicker(c.anyBut());
    const backup = nodeOfRole(c, view, "replica");
    const before = new Reader(c, { vm, first: backup });
    await before.moreTicks(30);
    await Promise.all(c.nodes.map((node) => node.kill()));
    await before.follower.stop();
    tear(backup);
    // The one that lost most comes first, and has to wait for another one.
    const others = c.nodes.filter((node) => node !== backup).reverse();
    for (const node of [backup, ...others]) await node.start();
    const after = new Reader(c, { vm, first: others[0] as NodeProcess });
    await until("the ticks to go on", switchMs, async () => {
      return after.ticks.length > before.ticks.length + 10;
    });
    await caughtUp(backup.client, { vm, node: backup.id, timeoutMs: switchMs });
    await after.follower.stop();
    assert.equal(after.fault(), null);
    assert.ok(after.text.startsWith(before.text), "what had left is in the history");
  },
);

clusterTest("a node that comes back with an empty disk is a new member", [], async (c) => {
  const env = { NODE_MESH_REPLACE_AFTER: "3s" };
  for (const name of ["alpha", "beta", "gamma"]) c.add(name, { env });
  await c.start();
  const view = await runTicker(c.anyBut());
  const victim = nodeOfRole(c, view, "replica");
  const old = victim.id;
  const witness = nodeOfRole(c, view, "witness");
  const reader = new Reader(c, { vm, first: witness });
  await reader.moreTicks(10);
  await victim.kill();
  rmSync(victim.dataDir, { recursive: true });
  const ticket = await witness.client.ticket({ uses: 1 });
  await victim.start({ ticket });
  assert.notEqual(victim.id, old, "an identity is not in the ticket but on the disk");
  await until("it to take the place that its old self had", 60_000, async () => {
    const { members } = await witness.client.vm(vm);
    const ids = members.map(({ node }) => node);
    return ids.length === 3 && ids.includes(victim.id) && !ids.includes(old);
  });
  await caughtUp(witness.client, { vm, node: victim.id, timeoutMs: switchMs });
  await (await primaryOf(c, vm)).kill();
  await until("the newcomer to run it", switchMs, async () => {
    return (await witness.client.vm(vm)).primary === victim.id;
  });
  await reader.moreTicks(10);
  await reader.follower.stop();
  assert.equal(reader.fault(), null);
});
