/** Blobs on disk and between nodes: whole or not there, verified, whatever the source does. */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openStorage } from "../storage/storage.ts";
import { generateMeshKey } from "../transport/mesh_key.ts";
import { MeshNode } from "../transport/mesh_node.ts";
import { BlobStore } from "./blob_store.ts";

function tempDir(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "node-mesh-blobs-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

interface Server {
  readonly node: MeshNode;
  readonly blobs: BlobStore;
  readonly path: string;
}

async function servers(t: TestContext, count: number): Promise<Server[]> {
  const meshKey = generateMeshKey();
  const list: Server[] = [];
  for (let n = 0; n < count; n += 1) {
    const storage = await openStorage({ dataDir: tempDir(t) });
    const listen = ["/ip4/127.0.0.1/tcp/0"];
    const node = await MeshNode.start({ meta: storage.meta, listen, meshKey });
    const path = join(tempDir(t), "blobs");
    const peers = () =>
      node
        .peers()
        .filter((p) => p.connected)
        .map(({ id }) => id);
    const blobs = BlobStore.open({ path, source: { peers, transfers: node.transfers } });
    t.after(async () => {
      await blobs.close();
      await node.stop();
      await storage.close();
    });
    const first = list[0];
    if (first !== undefined) await node.join(first.node.addresses());
    list.push({ node, blobs, path });
  }
  const links = (node: MeshNode) => node.peers().filter(({ connected }) => connected).length;
  while (list.some(({ node }) => links(node) < count - 1)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return list;
}

test("what was put is there under its hash, also after a restart", async (t) => {
  const path = join(tempDir(t), "blobs");
  const blobs = BlobStore.open({ path });
  const bytes = Uint8Array.from(randomBytes(700_000));
  const put = await blobs.put(pieces(bytes, 10_000));
  assert.deepEqual(put, { hash: hashOf(bytes), bytes: bytes.length });
  const file = join(tempDir(t), "image");
  writeFileSync(file, bytes);
  assert.equal((await blobs.put({ path: file })).hash, put.hash, "twice is fine");
  assert.deepEqual(readdirSync(join(path, "incoming")), []);
  writeFileSync(join(path, "incoming", "left-over"), "half");
  const again = BlobStore.open({ path });
  assert.deepEqual(again.list(), [put]);
  assert.ok(Buffer.compare(readFileSync(again.path(put.hash)!), bytes) === 0);
  assert.deepEqual(readdirSync(join(path, "incoming")), []);
  await again.remove(put.hash);
  assert.equal(again.path(put.hash), null);
  assert.deepEqual(BlobStore.open({ path }).list(), []);
});

test("an interrupted or impossible put leaves nothing", async (t) => {
  const path = join(tempDir(t), "blobs");
  const blobs = BlobStore.open({ path });
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(1000);
    throw new Error("it broke off");
  }
  await assert.rejects(blobs.put(broken()), /it broke off/);
  await assert.rejects(blobs.put({ path: "/nowhere/at/all" }), /ENOENT/);
  const abort = new AbortController();
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (let n = 0; ; n += 1) {
      if (n === 5) abort.abort(new Error("changed my mind"));
      yield new Uint8Array(1000);
    }
  }
  await assert.rejects(blobs.put(endless(), { signal: abort.signal }), /changed my mind/);
  assert.deepEqual(readdirSync(path), ["incoming"]);
  assert.deepEqual(readdirSync(join(path, "incoming")), []);
});

test("a blob is fetched from whoever has it, once for many who ask", async (t) => {
  const [a, b, c] = (await servers(t, 3)) as [Server, Server, Server];
  const bytes = Uint8Array.from(randomBytes(5_000_000));
  const { hash } = await b.blobs.put(pieces(bytes, 100_000));
  let last = { bytes: 0, total: 0 };
  const onProgress = (progress: { bytes: number; total: number }) => {
    last = progress;
  };
  const paths = await Promise.all([
    a.blobs.fetch(hash, { onProgress }),
    a.blobs.fetch(hash, { from: [b.node.id] }),
  ]);
  assert.equal(paths[0], paths[1]);
  assert.ok(Buffer.compare(readFileSync(paths[0]), bytes) === 0);
  assert.deepEqual(last, { bytes: bytes.length, total: bytes.length });
  await b.blobs.remove(hash);
  await c.blobs.fetch(hash, { from: [b.node.id] });
  assert.ok(c.blobs.has(hash), "from another one that has it");
  const empty = await a.blobs.put(pieces(new Uint8Array(), 1));
  await b.blobs.fetch(empty.hash);
  assert.ok(b.blobs.has(empty.hash));
  await assert.rejects(a.blobs.fetch("00".repeat(32)), /no connected node has it/);
  await assert.rejects(a.blobs.fetch("../../etc/passwd"), /that is no SHA-256/);
});

test("wrong bytes are refused, and another source is asked", async (t) => {
  const [a, b, c] = (await servers(t, 3)) as [Server, Server, Server];
  const bytes = Uint8Array.from(randomBytes(1_000_000));
  const { hash } = await b.blobs.put(pieces(bytes, 100_000));
  await c.blobs.fetch(hash);
  const damaged = Uint8Array.from(bytes);
  damaged[500_000]! ^= 1;
  writeFileSync(b.blobs.path(hash)!, damaged);
  await a.blobs.fetch(hash, { from: [b.node.id] });
  assert.ok(Buffer.compare(readFileSync(a.blobs.path(hash)!), bytes) === 0);
  await a.blobs.remove(hash);
  await c.blobs.remove(hash);
  await assert.rejects(a.blobs.fetch(hash), /not those of the blob/);
  writeFileSync(b.blobs.path(hash)!, bytes.subarray(0, 700_000));
  await assert.rejects(a.blobs.fetch(hash), /not those of the blob/);
  assert.deepEqual(readdirSync(join(a.path, "incoming")), []);
});

test("a fetch ends when nobody waits for it", async (t) => {
  const [a, b] = (await servers(t, 2)) as [Server, Server];
  const { hash } = await b.blobs.put(pieces(new Uint8Array(60_000_000), 1_000_000));
  const abort = new AbortController();
  const fetching = a.blobs.fetch(hash, {
    signal: abort.signal,
    onProgress: () => abort.abort(new Error("enough")),
  });
  await assert.rejects(fetching, /enough/);
  assert.equal(a.blobs.has(hash), false);
  await a.blobs.fetch(hash);
  assert.ok(a.blobs.has(hash));
});
