import assert from "node:assert/strict";
import { test } from "node:test";
import { runChaos } from "../../test/chaos/run_chaos.ts";

test("the example's scenario runs, and all that it demands holds", { timeout: 240_000 }, () => {
  const verdict = runChaos(["examples/chaos/two_faults.chaos", "--seed", "1"]);
  assert.equal(verdict.failure, null);
  assert.deepEqual(
    verdict.holds.map((hold) => hold.fault),
    verdict.holds.map(() => null),
  );
  assert.equal(verdict.holds.length, 5);
});
