/** The binary alone, in a root directory with nothing but the libraries that it links to. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { paths } from "../../src/build/paths.ts";
import { until } from "../../src/demo/cluster.ts";
import { EmptyRoot, linkedLibraries } from "./_empty_root.ts";

const refusal = EmptyRoot.refusal();
const options = refusal === null ? {} : { skip: refusal };

let root: EmptyRoot;
before(() => {
  root = new EmptyRoot();
});
after(() => root.remove());

test("it links to libraries of the C and C++ run time alone", () => {
  const names = linkedLibraries(paths.binary).map((path) => path.slice(path.lastIndexOf("/") + 1));
  for (const name of names) {
    assert.match(name, /^(ld-linux|lib(c|m|dl|pthread|gcc_s|stdc\+\+|atomic)\.so)/);
  }
});

test("it says its version", options, async () => {
  const result = await root.run(["--version"]);
  assert.equal(result.status, 0, result.stderr);
  const { version } = JSON.parse(readFileSync(join(paths.root, "package.json"), "utf8"));
  assert.ok(result.stdout.toString().includes(version), result.stdout.toString());
});

test("doctor runs", options, async () => {
  const result = await root.run(["doctor", "--json"]);
  assert.equal(result.stderr.includes("    at "), false, result.stderr);
  assert.equal(typeof JSON.parse(result.stdout.toString()), "object");
});

test("a node is up in it and runs a VM", options, async () => {
  const node = root.run(["up", "--data", "/data", "--listen", "127.0.0.1:0"]);
  const ask = (...words: string[]) => root.run([...words, "--data", "/data"]);
  try {
    await until("the node to answer", 60_000, async () => (await ask("status")).status === 0);
    const created = await ask("vm", "run", "alone", "--copies", "1", "--witnesses", "0");
    assert.equal(created.status, 0, created.stderr);
    await until("the guest to count", 60_000, async () => {
      return (await ask("vm", "logs", "alone")).stdout.includes("tick 2");
    });
  } finally {
    await ask("down");
  }
  const { status, stderr } = await node;
  assert.equal(status, 0, stderr);
});

test("it records and replays its own guest", options, async () => {
  const recorded = await root.run([
    ...["record", "/boot.nmlog", "--timeout", "4", "--stats", "/record.json"],
  ]);
  assert.equal(recorded.status, 0, recorded.stderr);
  assert.match(recorded.stdout.toString("latin1"), /tick 1\r\n/);
  const replayed = await root.run(["replay", "/boot.nmlog", "--stats", "/replay.json"]);
  assert.equal(replayed.status, 0, replayed.stderr);
  assert.ok(replayed.stdout.equals(recorded.stdout), "the replay printed something else");
  const verified = await root.run(["verify", "/boot.nmlog"]);
  assert.equal(verified.status, 0, verified.stderr);
  const digest = (name: string) =>
    JSON.parse(readFileSync(join(root.directory, name), "utf8")).digest;
  assert.equal(digest("replay.json"), digest("record.json"));
});
