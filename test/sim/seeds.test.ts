/**
 * The gate's share of the simulation: thousands of seeds, each another history of crashes,
 * partitions, slow disks and membership changes. `NODE_MESH_SIM_SEEDS` runs another number.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { runSeed } from "./cluster.ts";

const SEED_COUNT = Number(process.env.NODE_MESH_SIM_SEEDS ?? 10_000);
/** Outputs a run makes on average, at the very least: a group that does nothing is safe, too. */
const OUTPUTS_MEAN_MIN = 20;

test(`${SEED_COUNT} seeds hold`, () => {
  let outputCount = 0;
  for (let seed = 0; seed < SEED_COUNT; seed += 1) {
    try {
      outputCount += runSeed(seed).outputCount;
    } catch (error) {
      assert.fail(`${String(error)}; see it again: npm run sim -- --seed ${seed} --trace`);
    }
  }
  assert.ok(outputCount > OUTPUTS_MEAN_MIN * SEED_COUNT, `only ${outputCount} outputs were made`);
});
