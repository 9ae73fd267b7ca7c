import assert from "node:assert/strict";
import { test } from "node:test";
import { caughtUp, until } from "../../src/demo/cluster.ts";
import { runDemo } from "../../src/demo/scenario.ts";
import { clusterTest, nodeOfRole, primaryOf, program, Reader, runTicker } from "./cluster.ts";

const bootMs = 120_000;
const vm = "ticker";

test("the demo: two kills, nothing lost, nothing left behind", { timeout: 400_000 }, async () => {
  const said: string[] = [];
  const signal = new AbortController().signal;
  const verdict = await runDemo({ program: program(), say: (text) => said.push(text), signal });
  assert.equal(verdict.good, true, `${said.join("\n")}\n${JSON.stringify(verdict)}`);
  assert.equal(verdict.switches.length, 2);
});

clusterTest(
  "the primary is killed while Linux boots",
  ["alpha", "beta", "gamma"],
  async (cluster) => {
    const view = await runTicker(cluster.anyBut(), { kernel: null, memory_bytes: 256 * 2 ** 20 });
    const witness = nodeOfRole(cluster, view, "witness");
    const reader = new Reader(cluster, { vm, first: witness });
    await until("the boot to be under way", bootMs, async () => {
      return (await witness.client.vm(vm)).chunks >= 3;
    });
    const primary = await primaryOf(cluster, vm);
    assert.equal(reader.ticks.length, 0, "the guest booted before it could be interrupted");
    await primary.kill();
    await until("ticks", bootMs, async () => reader.ticks.length >= 3);
    await primary.start();
    await caughtUp(witness.client, { vm, node: primary.id, timeoutMs: bootMs });
    await reader.follower.stop();
    assert.equal(reader.fault(), null);
  },
);
