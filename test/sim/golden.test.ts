/**
 * Runs the scenarios of test/golden/raft: lines that begin with `>` are commands, the lines behind
 * one are what must happen, `#` begins prose. `node test/sim/golden.test.ts --update` writes what
 * does happen.
 */

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ScriptedGroup } from "./scripted_group.ts";

const FOLDER = join(import.meta.dirname, "../golden/raft");
const isUpdate = process.argv.includes("--update");

for (const name of readdirSync(FOLDER).filter((file) => file.endsWith(".txt"))) {
  test(`golden scenario ${name}`, () => {
    const path = join(FOLDER, name);
    const wanted = readFileSync(path, "utf8");
    const actual = play(wanted);
    if (isUpdate && actual !== wanted) writeFileSync(path, actual);
    else assert.equal(actual, wanted);
  });
}

/** The same script with what happened in place of what was expected. */
function play(script: string): string {
  const group = new ScriptedGroup();
  const lines: string[] = [];
  for (const line of script.split("\n")) {
    if (line.startsWith("> ")) {
      lines.push(line);
      for (const said of group.run(line.slice(2).trim())) lines.push(`  ${said}`);
    } else if (line === "" || line.startsWith("#")) {
      lines.push(line);
    }
  }
  return lines.join("\n");
}
