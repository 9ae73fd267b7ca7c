import assert from "node:assert/strict";
import { test } from "node:test";
import { mergeHistories, type Sample } from "./vm_history.ts";

function sample(at_ms: number, live: boolean, chunks: number): Sample {
  const rest = { log_bytes: 0, console_bytes: 0, lag_chunks: null };
  return { at_ms, live, chunks, ...rest, commit_p50_ms: null, commit_p99_ms: null };
}

test("the primary's samples count; where it is gone, those of the others", () => {
  const dead = { samples: [sample(2_000, true, 1)], switches: [] };
  const backup = {
    samples: [sample(2_100, false, 1), sample(4_100, false, 2), sample(6_100, true, 3)],
    switches: [],
  };
  const both = mergeHistories([backup, dead]).samples.map(({ at_ms, live }) => [at_ms, live]);
  assert.deepEqual(both, [
    [2_000, true],
    [4_100, false],
    [6_100, true],
  ]);
  const alone = mergeHistories([backup]).samples.map(({ chunks }) => chunks);
  assert.deepEqual(alone, [1, 2, 3]);
});
