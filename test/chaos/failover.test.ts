import assert from "node:assert/strict";
import { type Cluster, caughtUp, delay, until } from "../../src/demo/cluster.ts";
import { clusterTest, nodeOfRole, primaryOf, Reader, runTicker, switchMs } from "./cluster.ts";

const three = ["alpha", "beta", "gamma"];
const vm = "ticker";

/** A guest that counts, and who reads it at its primary. */
async function readAtPrimary(c: Cluster) {
  await runTicker(c.anyBut());
  const primary = await primaryOf(c, vm);
  const reader = new Reader(c, { vm, first: primary });
  await reader.moreTicks(10);
  return { primary, reader };
}

clusterTest("the primary is killed, comes back, and the next one is killed", three, async (c) => {
  const view = await runTicker(c.anyBut());
  const witness = nodeOfRole(c, view, "witness");
  const reader = new Reader(c, { vm, first: witness });
  await reader.moreTicks(10);
  for (let round = 0; round < 2; round += 1) {
    const primary = await primaryOf(c, vm);
    await primary.kill();
    await reader.moreTicks(10);
    assert.notEqual((await primaryOf(c, vm)).id, primary.id);
    await primary.start();
    await caughtUp(witness.client, { vm, node: primary.id, timeoutMs: switchMs });
  }
  await reader.follower.stop();
  assert.equal(reader.fault(), null);
});

clusterTest("the primary is killed at once after its start", three, async (c) => {
  const view = await runTicker(c.anyBut());
  const reader = new Reader(c, { vm, first: nodeOfRole(c, view, "witness") });
  await c.node(view.primary ?? "").kill();
  await reader.moreTicks(10);
  await reader.follower.stop();
  assert.equal(reader.fault(), null);
});

for (const role of ["replica", "witness"]) {
  clusterTest(`another ${role} is killed: nothing pauses, and it catches up`, three, async (c) => {
    const view = await runTicker(c.anyBut());
    const primary = await primaryOf(c, vm);
    const reader = new Reader(c, { vm, first: primary });
    await reader.moreTicks(5);
    const victim = nodeOfRole(c, view, role);
    await victim.kill();
    const before = performance.now();
    await reader.moreTicks(20);
    const tookMs = performance.now() - before;
    assert.ok(tookMs < 10_000, `20 ticks took ${tookMs} ms`);
    assert.equal((await primaryOf(c, vm)).id, primary.id);
    await victim.start();
    await caughtUp(primary.client, { vm, node: victim.id, timeoutMs: switchMs });
    await reader.follower.stop();
    assert.equal(reader.fault(), null);
  });
}

clusterTest(
  "a reader's own node dies: it goes on elsewhere with the next byte",
  three,
  async (c) => {
    const { primary, reader } = await readAtPrimary(c);
    await primary.kill();
    await reader.moreTicks(10);
    await reader.follower.stop();
    assert.equal(reader.fault(), null);
  },
);

clusterTest("all nodes are killed and started again", three, async (c) => {
  const view = await runTicker(c.anyBut());
  const first = nodeOfRole(c, view, "witness");
  const before = new Reader(c, { vm, first });
  await before.moreTicks(15);
  await before.follower.stop();
  await Promise.all(c.nodes.map((node) => node.kill()));
  await Promise.all(c.nodes.map((node) => node.start()));
  const after = new Reader(c, { vm, first });
  await until("the ticks to go on", switchMs, async () => {
    return after.ticks.length > before.ticks.length + 10;
  });
  await after.follower.stop();
  assert.equal(after.fault(), null);
  assert.equal(after.text.startsWith(before.text), true);
});

clusterTest("the primary's node stands still, and wakes up again", three, async (c) => {
  const view = await runTicker(c.anyBut());
  const witness = nodeOfRole(c, view, "witness");
  const reader = new Reader(c, { vm, first: witness });
  await reader.moreTicks(10);
  const primary = await primaryOf(c, vm);
  primary.signal("SIGSTOP");
  try {
    await until("another primary", switchMs, async () => {
      const now = (await witness.client.vm(vm)).primary;
      return now !== null && now !== primary.id;
    });
    await reader.moreTicks(10);
  } finally {
    primary.signal("SIGCONT");
  }
  await caughtUp(witness.client, { vm, node: primary.id, timeoutMs: switchMs });
  await reader.moreTicks(5);
  await reader.follower.stop();
  assert.equal(reader.fault(), null);
});

clusterTest(
  "both other members stand still: nothing leaves until one is back",
  three,
  async (c) => {
    const { primary, reader } = await readAtPrimary(c);
    const others = c.nodes.filter((node) => node.id !== primary.id);
    for (const node of others) node.signal("SIGSTOP");
    await delay(300);
    const stood = reader.ticks.length;
    await delay(4000);
    const meanwhile = reader.ticks.length - stood;
    for (const node of others) node.signal("SIGCONT");
    assert.ok(meanwhile <= 1, `${meanwhile} lines left without a quorum`);
    await reader.moreTicks(20);
    await reader.follower.stop();
    assert.equal(reader.fault(), null);
  },
);

clusterTest("what is typed during a failover arrives once", three, async (c) => {
  const view = await runTicker(c.anyBut());
  const witness = nodeOfRole(c, view, "witness");
  const reader = new Reader(c, { vm, first: witness });
  await reader.moreTicks(3);
  const letters = "abcdefghijklmnop";
  const typing = (async () => {
    for (let seq = 1; seq <= letters.length; seq += 1) {
      const data = Buffer.from(letters[seq - 1] ?? "").toString("base64");
      await witness.client.input(vm, { source: 4711, seq, data });
      await delay(50);
    }
  })();
  await reader.waitFor("key d 4\n");
  await (await primaryOf(c, vm)).kill();
  await typing;
  await reader.waitFor(`key p ${letters.length}\n`);
  await reader.follower.stop();
  const typed = [...reader.text.matchAll(/key (.) (\d+)\n/g)].map((match) => match[1]).join("");
  assert.equal(typed, letters);
  assert.equal(reader.fault(), null);
});
