/** The example does what its README says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runExample } from "./main.ts";

test("the embedded node runs the default guest", async () => {
  const lines: string[] = [];
  await runExample((line) => lines.push(line));
  assert.deepEqual(lines.slice(0, 3), ["tick 1", "tick 2", "tick 3"]);
});
