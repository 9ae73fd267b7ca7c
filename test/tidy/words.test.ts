/** What must not stand in committed files: unfinished marks, and paths or hosts of one machine. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { linesOf, trackedFiles } from "./_tree.ts";

const files = trackedFiles(
  /\.(tsx?|css|html|cc|h|sh|md|json|yml|txt|cmake)$|^\.ci\/|^src\/guest\/|CMakeLists/,
);
/** Holds the words themselves. */
const here = "test/tidy/words.test.ts";

function findings(pattern: RegExp, exclude: RegExp): string[] {
  const found: string[] = [];
  for (const file of files) {
    if (file === here || exclude.test(file)) continue;
    for (const [index, line] of linesOf(file).entries()) {
      if (pattern.test(line)) found.push(`${file}:${index + 1}: ${line.trim()}`);
    }
  }
  return found;
}

const nothing = /^$/;

test("no mark says that something is unfinished", () => {
  assert.deepEqual(findings(/\b(TODO|FIXME|XXX|HACK)\b|\bnot (yet )?implemented\b/, nothing), []);
});

test("no path of one machine", () => {
  const pattern = /(^|[^\w.~-])\/(work|farm|root|home\/\w+|tmp)\/[\w.]/;
  assert.deepEqual(findings(pattern, nothing), []);
});

test("no package registry is named by its host", () => {
  assert.deepEqual(findings(/https?:\/\/(registry|deb|security|archive)\./, /^package-lock/), []);
});

test("no stray conflict marks or tabs", () => {
  const exclude = /^test\/golden\//;
  assert.deepEqual(findings(/^(<<<<<<<|>>>>>>>|=======$)|\t/, exclude), []);
});
