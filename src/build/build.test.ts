/** The build's own parts: archives, apt sources, checks of what was fetched. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { privateSources } from "./apt_state.ts";
import { type CpioEntry, writeCpio } from "./cpio.ts";
import { verifySha256 } from "./fetched.ts";
import { suiteOf } from "./test_steps.ts";

const entries: CpioEntry[] = [
  { kind: "file", path: "bin/a", mode: 0o755, data: Buffer.from("hello") },
  { kind: "directory", path: "bin", mode: 0o755 },
  { kind: "link", path: "bin/b", target: "a" },
  { kind: "character_device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
];

interface Record {
  readonly name: string;
  readonly mode: number;
  readonly data: string;
}

/** Reads an archive back by the format's description. */
function readCpio(archive: Uint8Array): Record[] {
  const bytes = Buffer.from(archive);
  const records: Record[] = [];
  const align = (at: number): number => (at + 3) & ~3;
  for (let at = 0; ; ) {
    assert.equal(bytes.toString("latin1", at, at + 6), "070701");
    const field = (index: number): number => {
      const from = at + 6 + 8 * index;
      return Number.parseInt(bytes.toString("latin1", from, from + 8), 16);
    };
    const nameEnd = at + 110 + field(11);
    const name = bytes.toString("utf8", at + 110, nameEnd - 1);
    if (name === "TRAILER!!!") return records;
    const dataAt = align(nameEnd);
    const data = bytes.toString("utf8", dataAt, dataAt + field(6));
    records.push({ name, mode: field(1), data });
    at = align(dataAt + field(6));
  }
}

test("an archive holds its entries, parents first", () => {
  const records = readCpio(writeCpio(entries));
  assert.deepEqual(records, [
    { name: "bin", mode: 0o040755, data: "" },
    { name: "bin/a", mode: 0o100755, data: "hello" },
    { name: "bin/b", mode: 0o120777, data: "a" },
    { name: "dev/console", mode: 0o020600, data: "" },
  ]);
});

test("the same entries in another order give the same archive", () => {
  assert.deepEqual(writeCpio([...entries].reverse()), writeCpio(entries));
});

test("private apt sources keep the release and leave third parties out", () => {
  const stanzas =
    "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n" +
    "Components: main\n\nTypes: deb\nURIs: https://other.example\nSuites: nodistro\n" +
    "Components: main\n\nEnabled: no\nTypes: deb\nURIs: http://x.example\nSuites: bookworm\n";
  const lines =
    "# deb http://old.example bookworm main\ndeb [signed-by=/k.gpg] http://m.example bookworm main\n" +
    "deb http://tools.example tools-bookworm main\n";
  const made = privateSources([{ stanzas, lines }], "bookworm");
  assert.equal(
    made.stanzas,
    "Types: deb deb-src\nURIs: http://mirror.example/debian\n" +
      "Suites: bookworm bookworm-updates\nComponents: main",
  );
  assert.deepEqual(made.lines.split("\n"), [
    "deb [signed-by=/k.gpg] http://m.example bookworm main",
    "deb-src [signed-by=/k.gpg] http://m.example bookworm main",
  ]);
});

test("a fetched archive that is not what its description says is refused", () => {
  const directory = mkdtempSync(join(tmpdir(), "node-mesh-build-"));
  try {
    const file = join(directory, "a.orig.tar.gz");
    writeFileSync(file, "archive");
    const hash = createHash("sha256").update("archive").digest("hex");
    const description = `Checksums-Sha1:\n 00 7 a.orig.tar.gz\nChecksums-Sha256:\n ${hash} 7 a.orig.tar.gz\n`;
    verifySha256(file, description);
    writeFileSync(file, "archivf");
    assert.throws(() => verifySha256(file, description), /Cannot use "a.orig.tar.gz"/);
    assert.throws(() => verifySha256(file, ""), /says nothing/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("every test file belongs to the suite of its place", () => {
  assert.equal(suiteOf("mesh/raft/raft_core.test.ts"), "unit");
  assert.equal(suiteOf("test/sim/raft.test.ts"), "simulation");
  assert.equal(suiteOf("test/matrix/boot.test.ts"), "integration");
  assert.equal(suiteOf("src/daemon/three_nodes.e2e.test.ts"), "integration");
});
