/** The simulator's own promises: it is deterministic, and its checkers see every canary. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { CANARIES, type Canary } from "./canaries.ts";
import { type Property, Violation } from "./checkers.ts";
import { runSeed } from "./cluster.ts";

const CANARY_SEED_COUNT = 500;

test("the same seed makes the same history, another seed another one", () => {
  for (let seed = 0; seed < 20; seed += 1) {
    const { hash } = runSeed(seed);
    assert.equal(runSeed(seed).hash, hash);
    assert.notEqual(runSeed(seed + 1).hash, hash);
  }
});

for (const [name, mistake] of Object.entries(CANARIES)) {
  test(`the checkers see it when ${mistake}`, () => {
    const property = firstViolation(name as Canary);
    assert.ok(property, `${CANARY_SEED_COUNT} seeds held with the canary ${name}`);
  });
}

function firstViolation(canary: Canary): Property | null {
  for (let seed = 0; seed < CANARY_SEED_COUNT; seed += 1) {
    try {
      runSeed(seed, { canary });
    } catch (error) {
      assert.ok(error instanceof Violation);
      return error.property;
    }
  }
  return null;
}
