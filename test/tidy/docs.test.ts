/** Documents keep their word: links lead somewhere, commands exist, promises have tests. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";
import { linesOf, root, textOf, trackedFiles } from "./_tree.ts";

const documents = trackedFiles(/\.md$/);
const promises = ".github/PROMISES.md";

test("relative links of documents lead to files", () => {
  const wrong: string[] = [];
  for (const file of documents) {
    for (const match of textOf(file).matchAll(/\]\(([^)#\s]+)(#[^)]*)?\)/g)) {
      const target = match[1] ?? "";
      if (/^[a-z]+:/.test(target)) continue;
      if (!existsSync(join(root, dirname(file), target))) wrong.push(`${file} -> ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("npm commands in documents exist", () => {
  const { scripts } = JSON.parse(textOf("package.json"));
  const wrong: string[] = [];
  for (const file of documents) {
    for (const match of textOf(file).matchAll(/npm run ([a-z:-]+)/g)) {
      if (!Object.hasOwn(scripts, match[1] ?? "")) wrong.push(`${file}: npm run ${match[1]}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("the README has the two commands that matter", () => {
  const text = textOf("README.md");
  assert.match(text, /npm ci && npm run demo/);
  assert.match(text, /npm ci && npm test/);
});

/** Rows of the table: | promise | [name of the test](file) | */
test("each promise is held by a test that exists", () => {
  const rows = linesOf(promises).filter((line) => /^\|/.test(line) && line.includes("]("));
  assert.ok(rows.length > 0, "the table is empty");
  for (const row of rows) {
    for (const match of row.matchAll(/\[([^\]]+)\]\(([^)]+)\)/g)) {
      const file = normalize(join(dirname(promises), match[2] ?? ""));
      assert.ok(existsSync(join(root, file)), `${promises}: ${file} is not there`);
      const name = match[1] ?? "";
      assert.ok(textOf(file).includes(name), `${promises}: ${file} has no test "${name}"`);
    }
  }
});
