/**
 * Scenarios that come along, as a user runs them: one of each kind of fault that the other tests of
 * this folder do not have. `node-mesh chaos --all` runs the rest, too.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runChaos } from "./run_chaos.ts";

const seed = process.env["NODE_MESH_SEED"] ?? "1";

for (const name of ["store", "lossy_links", "full_disk", "broken_disk", "clocks_jump"]) {
  test(`chaos ${name}`, { timeout: 240_000 }, (t) => {
    const verdict = runChaos([name, "--seed", seed]);
    if (verdict.skipped !== null) {
      t.skip(verdict.skipped);
      return;
    }
    const faults = verdict.holds.filter((hold) => hold.fault !== null);
    assert.deepEqual({ failure: verdict.failure, faults }, { failure: null, faults: [] });
  });
}
