/** Layers point one way, nothing goes in circles, and private files stay private. */
import assert from "node:assert/strict";
import { basename, dirname } from "node:path";
import { test } from "node:test";
import { type Edge, findCycle, importsOf, includesOf } from "./_graph.ts";
import { trackedFiles } from "./_tree.ts";

const typescript = trackedFiles(/\.tsx?$/);
const native = trackedFiles(/^native\/.*\.(cc|h)$/);

/** Folder of the checkout -> what its files may import from other folders of it. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  "mod.ts": ["mesh", "src"],
  mesh: [],
  src: ["mesh", "mod.ts"],
  examples: ["mod.ts", "src", "mesh"],
  test: ["mod.ts", "src", "mesh", "examples"],
};

/** Headers that say what guest memory, positions, files, hashes and an engine are. */
const sharedWords = [
  "native/kvm/user_engine.h",
  "native/machine/check.h",
  "native/machine/format_text.h",
  "native/machine/guest_memory.h",
  "native/machine/position.h",
  "native/replay/byte_codec.h",
  "native/replay/file.h",
  "native/replay/sha256.h",
];

/** Part of native/ -> the parts it may include, beside itself and `sharedWords`. */
const mayInclude: Readonly<Record<string, readonly string[]>> = {
  cpu: [],
  disk: [],
  devices: ["disk"],
  machine: ["cpu", "devices", "disk"],
  kvm: ["cpu", "machine"],
  replay: ["machine", "cpu", "disk"],
  checkpoint: ["replay", "machine", "cpu", "disk"],
  wire: ["checkpoint", "replay", "machine", "kvm", "cpu", "disk"],
  verbs: ["wire", "checkpoint", "replay", "machine", "kvm", "cpu", "disk"],
  "main.cc": ["verbs"],
  test: ["verbs", "wire", "checkpoint", "replay", "machine", "kvm", "devices", "cpu", "disk"],
  fuzz: ["verbs", "wire", "checkpoint", "replay", "machine", "kvm", "devices", "cpu", "disk"],
};

/** The one place that is a library's face: tests of src/ and mesh/ are in those folders too. */
function isTestFile(file: string): boolean {
  return /\.test\.ts$/.test(file) || file.startsWith("test/") || /(^|\/)test\//.test(file);
}

function topOf(file: string): string {
  return file.split("/")[0] ?? file;
}

function partOf(file: string): string {
  return file.split("/")[1] ?? file;
}

function describe(edge: Edge): string {
  return `${edge.from} -> ${edge.to}`;
}

test("TypeScript layers point one way", () => {
  const wrong = typescript.flatMap(importsOf).filter((edge) => {
    if (!edge.to.includes("/") || !typescript.includes(edge.to)) return false;
    const from = topOf(edge.from);
    const to = topOf(edge.to);
    if (from === to || (to === "test" && isTestFile(edge.from))) return false;
    return !(mayImport[from] ?? []).includes(to);
  });
  assert.deepEqual(wrong.map(describe), []);
});

test("relative imports name files that exist", () => {
  const wrong = typescript
    .flatMap(importsOf)
    .filter((edge) => /^(mod\.ts|(mesh|src|test|examples)\/)/.test(edge.to))
    .filter((edge) => !typescript.includes(edge.to));
  assert.deepEqual(wrong.map(describe), []);
});

test("programs do not import tests", () => {
  const wrong = typescript
    .filter((file) => !isTestFile(file))
    .flatMap(importsOf)
    .filter((edge) => isTestFile(edge.to));
  assert.deepEqual(wrong.map(describe), []);
});

test("a file named with an underscore is imported in its own folder alone", () => {
  const wrong = typescript.flatMap(importsOf).filter((edge) => {
    if (!basename(edge.to).startsWith("_") || !typescript.includes(edge.to)) return false;
    const folder = dirname(edge.to);
    return dirname(edge.from) !== folder && !edge.from.startsWith(`${folder}/`);
  });
  assert.deepEqual(wrong.map(describe), []);
});

test("TypeScript files do not import in circles", () => {
  assert.equal(findCycle(typescript, importsOf)?.join(" -> ") ?? null, null);
});

test("mod.ts files only hand on what others define", () => {
  for (const file of typescript.filter((path) => basename(path) === "mod.ts")) {
    const edges = importsOf(file);
    assert.ok(edges.length > 0, `${file} re-exports nothing`);
  }
});

test("parts of native/ include what their layer may know", () => {
  const wrong = native.flatMap(includesOf).filter((edge) => {
    const from = partOf(edge.from);
    const to = partOf(edge.to);
    if (from === to || sharedWords.includes(edge.to) || isNativeTest(edge.from)) return false;
    return !(mayInclude[from] ?? []).includes(to);
  });
  assert.deepEqual(wrong.map(describe), []);
});

function isNativeTest(file: string): boolean {
  return /(^|\/)(test|fuzz)\/|_test\.cc$/.test(file);
}

test("native programs do not include tests", () => {
  const wrong = native
    .filter((file) => !isNativeTest(file))
    .flatMap(includesOf)
    .filter((edge) => isNativeTest(edge.to));
  assert.deepEqual(wrong.map(describe), []);
});

test("native headers do not include in circles", () => {
  assert.equal(findCycle(native, includesOf)?.join(" -> ") ?? null, null);
});
