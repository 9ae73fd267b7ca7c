/** Files, functions and lines stay readable; who may be larger is listed with its reason. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { linesOf, trackedFiles } from "./_tree.ts";

const fileLinesMax = 500;
const functionLinesMax = 70;
const lineColumnsMax = 100;

/** File -> lines it may have, and why. */
const largerFiles: Readonly<Record<string, readonly [number, string]>> = {};

/** `file: first line of the function` -> lines it may have, and why. */
const longerFunctions: Readonly<Record<string, readonly [number, string]>> = {};

const sources = trackedFiles(/\.(tsx?|css|cc|h|sh)$/);

test("files are at most 500 lines long", () => {
  const wrong = sources.filter(
    (file) => linesOf(file).length > (largerFiles[file]?.[0] ?? fileLinesMax),
  );
  assert.deepEqual(
    wrong.map((file) => `${file}: ${linesOf(file).length} lines`),
    [],
  );
});

test("lines are at most 100 columns wide", () => {
  const wrong: string[] = [];
  for (const file of sources) {
    for (const [index, line] of linesOf(file).entries()) {
      if ([...line].length > lineColumnsMax && !isUnbreakable(line)) {
        wrong.push(`${file}:${index + 1}: ${[...line].length} columns`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

/** A long address, string or pattern has no place to break. */
function isUnbreakable(line: string): boolean {
  return /https?:\/\/\S{60,}|["`][^"`]{60,}["`]|^\s*\/.{90,}\/;$/.test(line);
}

interface FunctionSpan {
  readonly title: string;
  readonly lines: number;
}

const notFunctions =
  /^(if|else|for|while|switch|do|try|catch|namespace|class|struct|enum|union|extern|return|case|default|constexpr struct|describe|test|it|before|after|TEST_CASE|SUBCASE)\b|^[})\]]/;

/** Functions by their layout: a head that ends with "{" and the first "}" at its own depth. */
function functionsOf(file: string): FunctionSpan[] {
  const lines = linesOf(file);
  const spans: FunctionSpan[] = [];
  for (const [index, line] of lines.entries()) {
    if (!line.endsWith("{") || !line.includes(")")) continue;
    const start = headLine(lines, index);
    const head = lines[start] ?? "";
    if (notFunctions.test(head.trim()) || /=>\s*\{$/.test(line)) continue;
    const depth = /^\s*/.exec(head)?.[0] ?? "";
    const end = lines.findIndex((other, at) => at > index && other.startsWith(`${depth}}`));
    if (end > index) spans.push({ title: head.trim(), lines: end - start + 1 });
  }
  return spans;
}

/** The first line of a head that spans several: the nearest one above that is less indented. */
function headLine(lines: readonly string[], at: number): number {
  const indent = (line: string): number => /^\s*/.exec(line)?.[0].length ?? 0;
  let first = at;
  const own = lines[at] ?? "";
  if (!/^\s*\)/.test(own) && !/^\s{4,}\S.*\)\s*(const|noexcept|override|:.*)?\s*\{$/.test(own))
    return at;
  while (first > 0 && at - first < 12) {
    const above = lines[first - 1] ?? "";
    const opensCondition = /^\s*(if|for|switch|while) \(.*;$/.test(above);
    if (above.trim() === "" || (/[;{}]$/.test(above) && !opensCondition)) break;
    first -= 1;
    // What a constructor initialises stands between its head and its body.
    if (/^\s*:/.test(above)) continue;
    if (indent(above) < indent(own) || /\($/.test(above)) break;
  }
  return first;
}

test("functions are at most 70 lines long", () => {
  const wrong: string[] = [];
  for (const file of trackedFiles(/\.(tsx?|cc|h)$/)) {
    if (/(^|\/)test\/|\.test\.ts$/.test(file)) continue;
    for (const span of functionsOf(file)) {
      const allowed = longerFunctions[`${file}: ${span.title}`]?.[0] ?? functionLinesMax;
      if (span.lines > allowed) wrong.push(`${file}: ${span.title}: ${span.lines} lines`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("exceptions are still needed and give a reason", () => {
  for (const [file, [lines, reason]] of Object.entries(largerFiles)) {
    assert.ok(linesOf(file).length > fileLinesMax, `${file} fits now`);
    assert.ok(lines <= 2 * fileLinesMax && reason.length > 20, `${file}: reason`);
  }
});
