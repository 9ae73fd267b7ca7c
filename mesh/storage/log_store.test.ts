/** The node's storage: durability, order, truncation, locks, damage and a full or failing disk. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { storageLimits } from "../limits.ts";
import type { Entry, Member } from "../raft/types.ts";
import { openStorage, type Storage, StorageError } from "./storage.ts";
import type { WorkerSource } from "./types.ts";

const MEMBERS: readonly Member[] = [
  { id: "a", role: "replica" },
  { id: "b", role: "witness" },
];

function entry(index: number, term: number, text: string): Entry {
  return { index, term, kind: "data", data: new TextEncoder().encode(text) };
}

function entries(
  from: number,
  to: number,
  options: { term?: number; bytes?: number } = {},
): Entry[] {
  const list: Entry[] = [];
  for (let index = from; index <= to; index += 1) {
    const data = new Uint8Array(options.bytes ?? 10).fill(index & 0xff);
    list.push({ index, term: options.term ?? 1, kind: "data", data });
  }
  return list;
}

function dataDir(t: { after(callback: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), "node-mesh-storage-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function withStorage<T>(path: string, work: (storage: Storage) => Promise<T>): Promise<T> {
  const storage = await openStorage({ dataDir: path });
  try {
    return await work(storage);
  } finally {
    await storage.close();
  }
}

test("what was appended is there after a restart", async (t) => {
  const path = dataDir(t);
  await withStorage(path, async ({ log, meta }) => {
    await log.create("g", MEMBERS, new Uint8Array([1, 2]));
    await log.load("g");
    await log.append("g", {
      hardState: { term: 3, votedFor: "b", commit: 1 },
      entries: [entry(1, 1, "one"), { ...entry(2, 2, "two"), kind: "noop" }, entry(3, 3, "")],
    });
    await meta.put("name", new Uint8Array([7]));
  });
  await withStorage(path, async ({ log, meta }) => {
    assert.deepEqual(
      log.groups().map(({ id }) => id),
      ["g"],
    );
    const group = await log.load("g");
    assert.deepEqual(group.members, MEMBERS);
    assert.deepEqual([...group.info], [1, 2]);
    assert.deepEqual(group.hardState, { term: 3, votedFor: "b", commit: 1 });
    assert.equal(group.log.lastIndex, 3);
    assert.deepEqual(
      [1, 2, 3].map((index) => group.log.term(index)),
      [1, 2, 3],
    );
    const stored = await group.log.fetch(1, { to: 4, bytesMax: 1e6 });
    assert.deepEqual(
      stored.map(({ kind, data }) => [kind, Buffer.from(data).toString()]),
      [
        ["data", "one"],
        ["noop", "two"],
        ["data", ""],
      ],
    );
    assert.deepEqual([...(meta.get("name") ?? [])], [7]);
  });
});

test("appends of one turn share a transaction; later entries replace earlier", async (t) => {
  const path = dataDir(t);
  await withStorage(path, async ({ log }) => {
    await log.create("g", MEMBERS, new Uint8Array());
    const group = await log.load("g");
    await Promise.all([
      log.append("g", { hardState: null, entries: entries(1, 5, { term: 1 }) }),
      log.append("g", { hardState: null, entries: entries(4, 4, { term: 2 }) }),
      log.append("g", { hardState: null, entries: entries(5, 6, { term: 4 }) }),
    ]);
    assert.deepEqual(
      [1, 3, 4, 5, 6].map((index) => group.log.term(index)),
      [1, 1, 2, 4, 4],
    );
    await log.append("g", { hardState: null, entries: entries(2, 2, { term: 5 }) });
    assert.equal(group.log.lastIndex, 2);
    assert.throws(() => group.log.term(3), RangeError);
  });
  await withStorage(path, async ({ log }) => {
    const group = await log.load("g");
    assert.equal(group.log.lastIndex, 2);
    assert.deepEqual(
      [1, 2].map((index) => group.log.term(index)),
      [1, 5],
    );
  });
});

test("memory holds a bounded tail; older entries load in the background", async (t) => {
  const path = dataDir(t);
  await withStorage(path, async ({ log }) => {
    await log.create("g", MEMBERS, new Uint8Array());
    let loaded = Promise.withResolvers<void>();
    const group = await log.load("g", { onLoaded: () => loaded.resolve() });
    for (let from = 1; from <= 400; from += 20) {
      const batch = entries(from, from + 19, { bytes: 16_384 });
      await log.append("g", { hardState: null, entries: batch });
    }
    assert.equal(group.log.peek(1, { to: 2, bytesMax: 1e6 }).length, 0, "dropped from memory");
    assert.equal(group.log.slice(400, 401, 1e6).length, 1);
    assert.deepEqual(group.log.slice(1, 401, 40_000), []);
    await loaded.promise;
    assert.deepEqual(
      group.log.slice(1, 401, 40_000).map(({ index }) => index),
      [1, 2],
    );
    assert.equal(group.log.slice(5, 6, 1).length, 1, "at least one entry");
    loaded = Promise.withResolvers<void>();
    const wanted = Math.ceil(storageLimits.readBytesMax / 16_384) + 5;
    assert.deepEqual(group.log.slice(wanted, 401, 1e6), []);
    await loaded.promise;
    assert.equal(group.log.slice(wanted, 401, 1e6)[0]?.index, wanted);
  });
});

test("a destroyed group leaves a tombstone and no entries", async (t) => {
  const path = dataDir(t);
  await withStorage(path, async ({ log }) => {
    await log.create("g", MEMBERS, new Uint8Array([1]));
    await log.load("g");
    await log.append("g", { hardState: null, entries: entries(1, 300, { bytes: 100 }) });
    await log.destroy("g");
    await assert.rejects(log.append("g", { hardState: null, entries: entries(301, 301) }));
    await assert.rejects(log.load("g"), /does not hold it/);
    await assert.rejects(log.create("g", MEMBERS, new Uint8Array()), /exists already/);
  });
  await withStorage(path, async ({ log }) => {
    assert.equal(log.find("g")?.fate, "destroyed");
    await new Promise((resolve) => setTimeout(resolve, storageLimits.commitFlushMs + 500));
  });
  const db = new DatabaseSync(join(path, "mesh.db"));
  assert.equal(db.prepare("SELECT count(*) AS n FROM entries").get()?.n, 0);
  db.close();
});

test("a log that was given up is remembered by its term, its vote and its end", async (t) => {
  const path = dataDir(t);
  const checkpoint = "ab";
  await withStorage(path, async ({ log }) => {
    await log.create("g", MEMBERS, new Uint8Array([1]));
    await log.load("g");
    const hardState = { term: 7, votedFor: "b", commit: 3 };
    await log.append("g", { hardState, entries: entries(1, 200, { term: 7, bytes: 100 }) });
    await log.leave("g");
    assert.equal(log.find("g")?.fate, "left");
    await log.create("g", MEMBERS, new Uint8Array([2]));
    const again = await log.load("g");
    assert.deepEqual(again.hardState, { term: 7, votedFor: "b", commit: 0 });
    assert.deepEqual(again.floor, { index: 200, term: 7 });
    assert.deepEqual([again.log.firstIndex, again.log.lastIndex, again.cut], [1, 0, null]);
    await log.append("g", { hardState: null, entries: entries(1, 10, { term: 7 }) });
  });
  await withStorage(path, async ({ log }) => {
    // A checkpoint of an older end: the floor stays where it was, and so does the vote of its term.
    await log.seed("g", { index: 50, term: 7, checkpoint }, MEMBERS);
    const seeded = await log.load("g");
    assert.deepEqual(seeded.floor, { index: 200, term: 7 });
    assert.deepEqual(seeded.hardState, { term: 7, votedFor: "b", commit: 50 });
    assert.deepEqual([seeded.log.firstIndex, seeded.log.lastIndex], [51, 50]);
    assert.equal(seeded.log.term(50), 7);
    await log.append("g", { hardState: null, entries: entries(51, 120, { term: 9 }) });
    await log.cut("g", { index: 100, term: 9, checkpoint }, MEMBERS);
    assert.deepEqual([seeded.log.firstIndex, seeded.log.lastIndex], [101, 120]);
    await log.seed("g", { index: 130, term: 10, checkpoint }, MEMBERS);
  });
  await withStorage(path, async ({ log }) => {
    const last = await log.load("g");
    assert.deepEqual(last.floor, { index: 120, term: 9 });
    assert.deepEqual(last.hardState, { term: 10, votedFor: null, commit: 130 });
    assert.deepEqual(last.cut, { index: 130, term: 10, checkpoint });
  });
});

test("a data directory in use is refused, naming the process", async (t) => {
  const path = dataDir(t);
  await withStorage(path, async () => {
    await assert.rejects(openStorage({ dataDir: path }), (error: Error) => {
      assert.match(error.message, /Cannot open data directory ".*": it is in use by process \d+;/);
      assert.ok(error.message.includes(`process ${process.pid};`));
      return true;
    });
  });
  await withStorage(path, async () => {});
});

test("files are readable by their owner only", async (t) => {
  const path = join(dataDir(t), "inner");
  await withStorage(path, async ({ meta }) => {
    await meta.put("k", new Uint8Array(3));
    for (const file of ["mesh.db", "mesh.db-wal", "lock.db"]) {
      assert.equal(statSync(join(path, file)).mode & 0o077, 0, file);
    }
    assert.equal(statSync(path).mode & 0o077, 0);
  });
});

test("a file that is no database, or somebody else's, is refused", async (t) => {
  const path = dataDir(t);
  writeFileSync(join(path, "mesh.db"), "this is not a database, it is a text file\n".repeat(100));
  await assert.rejects(openStorage({ dataDir: path }), /Cannot open the log database .* damaged/);
  rmSync(join(path, "mesh.db"));
  const db = new DatabaseSync(join(path, "mesh.db"));
  db.exec("CREATE TABLE other (x)");
  db.close();
  await assert.rejects(openStorage({ dataDir: path }), /was not made by node-mesh/);
});

test("a flipped bit in a stored entry is noticed", async (t) => {
  const path = dataDir(t);
  await withStorage(path, async ({ log }) => {
    await log.create("g", MEMBERS, new Uint8Array());
    await log.load("g");
    await log.append("g", { hardState: null, entries: entries(1, 3) });
  });
  const db = new DatabaseSync(join(path, "mesh.db"));
  db.prepare("UPDATE entries SET d = ? WHERE i = 2").run(new Uint8Array(10).fill(9));
  db.close();
  await withStorage(path, async ({ log }) => {
    const group = await log.load("g");
    await assert.rejects(
      group.log.fetch(1, { to: 4, bytesMax: 1e6 }),
      (error) => error instanceof StorageError && error.fault === "corrupt",
    );
  });
});

test("a full disk fails the group that hit it and nothing is acknowledged", async (t) => {
  const path = dataDir(t);
  await withStorage(path, async ({ log }) => {
    await log.create("g", MEMBERS, new Uint8Array());
    await log.load("g");
    await log.append("g", { hardState: null, entries: entries(1, 1) });
  });
  // A page limit of the file makes SQLite report what a full disk would.
  const source: WorkerSource = (options) => {
    const limited = `
      import { DatabaseSync } from "node:sqlite";
      const exec = DatabaseSync.prototype.exec;
      let limited = false;
      DatabaseSync.prototype.exec = function (sql) {
        if (sql.startsWith("BEGIN") && !limited) {
          limited = true;
          this.prepare("PRAGMA max_page_count = 60").get();
        }
        return exec.call(this, sql);
      };
      await import(${JSON.stringify(new URL("./worker.ts", import.meta.url).href)});`;
    return new Worker(new URL(`data:text/javascript,${encodeURIComponent(limited)}`), options);
  };
  const storage = await openStorage({ dataDir: path, workerSource: source });
  t.after(() => storage.close());
  const { log } = storage;
  const group = await log.load("g");
  const big = log.append("g", { hardState: null, entries: entries(2, 40, { bytes: 16_384 }) });
  const next = log.append("g", { hardState: null, entries: entries(41, 41) });
  const isFull = (error: unknown) => error instanceof StorageError && error.fault === "full";
  await assert.rejects(big, isFull);
  await assert.rejects(next, isFull);
  await assert.rejects(log.append("g", { hardState: null, entries: entries(2, 2) }), isFull);
  assert.equal(group.log.lastIndex, 1, "what was not durable is not shown");
  const again = await log.load("g");
  assert.equal(again.log.lastIndex, 1);
  await log.append("g", { hardState: null, entries: entries(2, 2) });
  assert.equal(again.log.lastIndex, 2, "after a load the group may go on");
});

test("when the worker dies every waiting and later write is refused", async (t) => {
  const path = dataDir(t);
  let writer: Worker | undefined;
  const source: WorkerSource = (options) => {
    const worker = new Worker(new URL("./worker.ts", import.meta.url), options);
    writer ??= worker;
    return worker;
  };
  const storage = await openStorage({ dataDir: path, workerSource: source });
  t.after(() => storage.close());
  await storage.log.create("g", MEMBERS, new Uint8Array());
  await storage.log.load("g");
  void writer?.terminate();
  await assert.rejects(async () => {
    for (let index = 1; index < 10_000; index += 1) {
      await storage.log.append("g", { hardState: null, entries: entries(index, index) });
    }
  }, StorageError);
  assert.ok((await storage.failure) instanceof StorageError);
  await assert.rejects(storage.log.append("g", { hardState: null, entries: [] }), StorageError);
});

const WRITER = `
  import { openStorage } from ${JSON.stringify(new URL("./storage.ts", import.meta.url).href)};
  const { log } = await openStorage({ dataDir: process.argv[1] });
  const members = [{ id: "a", role: "replica" }];
  if (log.find("g") === undefined) await log.create("g", members, new Uint8Array());
  const { log: { lastIndex } } = await log.load("g");
  for (let index = lastIndex + 1; ; index += 1) {
    const data = new Uint8Array(2000).fill(index & 255);
    await log.append("g", { hardState: { term: index, votedFor: "a", commit: 0 },
      entries: [{ index, term: 1, kind: "data", data }] });
    process.stdout.write(index + "\\n");
  }`;

async function killedWriter(path: string, lines: number): Promise<number> {
  const args = ["--input-type=module", "-e", WRITER, path];
  const child: ChildProcess = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let acknowledged = 0;
  let count = 0;
  for await (const line of createInterface({ input: child.stdout! })) {
    acknowledged = Number(line);
    count += 1;
    if (count === lines) child.kill("SIGKILL");
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return acknowledged;
}

test("what was acknowledged survives kill -9", async (t) => {
  const path = dataDir(t);
  for (const lines of [1, 40, 300]) {
    const acknowledged = await killedWriter(path, lines);
    await withStorage(path, async ({ log }) => {
      const group = await log.load("g");
      assert.ok(group.log.lastIndex >= acknowledged, `${group.log.lastIndex} >= ${acknowledged}`);
      assert.equal(group.hardState.term, group.log.lastIndex, "entries and state are one");
      let next = 1;
      while (next <= group.log.lastIndex) {
        for (const { index, data } of await group.log.fetch(next, { to: 1e9, bytesMax: 1e5 })) {
          assert.equal(index, next);
          assert.equal(data[1999], index & 255);
          next += 1;
        }
      }
    });
  }
});
