/** Real nodes on loopback: links, admission, reconnection, requests, hostile peers, a clean end. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { tcp } from "@libp2p/tcp";
import { multiaddr } from "@multiformats/multiaddr";
import { Type } from "@sinclair/typebox";
import { createLibp2p, type Libp2p } from "libp2p";
import { openStorage } from "../storage/storage.ts";
import { frameHead, frameType } from "./frames.ts";
import { generateMeshKey, noisePrologue } from "./mesh_key.ts";
import { MeshNode, type MeshNodeOptions } from "./mesh_node.ts";
import { defineRpc, defineRpcStream, RpcRemoteError, RpcUnreachableError } from "./rpc.ts";

const LOOPBACK = ["/ip4/127.0.0.1/tcp/0"];

function tempDir(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "node-mesh-transport-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

interface Started {
  readonly node: MeshNode;
  stop(): Promise<void>;
}

async function start(
  t: TestContext,
  options: Partial<MeshNodeOptions> & { dataDir?: string } = {},
): Promise<Started> {
  const storage = await openStorage({ dataDir: options.dataDir ?? tempDir(t) });
  let node: MeshNode;
  try {
    node = await MeshNode.start({ meta: storage.meta, listen: LOOPBACK, ...options });
  } catch (error) {
    await storage.close();
    throw error;
  }
  const stop = async () => {
    await node.stop();
    await storage.close();
  };
  t.after(stop);
  return { node, stop };
}

async function until(what: string, condition: () => boolean, limitMs = 10_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > end) assert.fail(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function pair(t: TestContext): Promise<[Started, Started]> {
  const meshKey = generateMeshKey();
  const a = await start(t, { meshKey });
  const b = await start(t, { meshKey });
  await b.node.join(a.node.addresses());
  await until("both up", () => a.node.isConnected(b.node.id) && b.node.isConnected(a.node.id));
  return [a, b];
}

/** A libp2p node that is no mesh node. */
async function stranger(t: TestContext, key?: Uint8Array): Promise<Libp2p> {
  const prologue = key === undefined ? {} : { prologueBytes: noisePrologue(key) };
  const node = await createLibp2p({
    transports: [tcp()],
    connectionEncrypters: [noise(prologue)],
    streamMuxers: [yamux()],
  });
  t.after(() => node.stop());
  return node;
}

test("frames travel both ways and are worked off in order", async (t) => {
  const [a, b] = await pair(t);
  const got: string[] = [];
  let bulkBytes = 0;
  b.node.onGroupFrame((from, payload, release) => {
    assert.equal(from, a.node.id);
    if (payload.length < 100) got.push(Buffer.from(payload).toString());
    else bulkBytes += payload.length;
    release();
  });
  for (let n = 0; n < 50; n += 1) assert.ok(a.node.sendControl(b.node.id, Buffer.from(`${n}`)));
  // Far more than the credit window: it passes because the far end works it off.
  let sent = 0;
  while (sent < 64) {
    if (a.node.sendBulk(b.node.id, new Uint8Array(300_000))) sent += 1;
    else await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await until("all bulk", () => bulkBytes === 64 * 300_000);
  assert.deepEqual(
    got,
    Array.from({ length: 50 }, (_, n) => `${n}`),
  );
});

test("a receiver that works nothing off stops the sender at the window", async (t) => {
  const [a, b] = await pair(t);
  const releases: (() => void)[] = [];
  let received = 0;
  b.node.onGroupFrame((_from, payload, release) => {
    received += payload.length;
    releases.push(release);
  });
  let refused = 0;
  for (let n = 0; n < 200; n += 1) {
    if (!a.node.sendBulk(b.node.id, new Uint8Array(100_000))) refused += 1;
  }
  assert.ok(refused > 0, "the queue is bounded");
  await until("a window", () => received >= 900_000);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.ok(received <= 1024 * 1024, `${received} bytes without credit`);
  const before = received;
  for (const release of releases.splice(0)) release();
  await until("more after credit", () => received > before);
});

test("a third node is introduced to the others, and peers are remembered", async (t) => {
  const meshKey = generateMeshKey();
  const a = await start(t, { meshKey });
  const b = await start(t, { meshKey });
  const dataDir = tempDir(t);
  const c = await start(t, { meshKey, dataDir });
  await b.node.join(a.node.addresses());
  await c.node.join(a.node.addresses());
  await until("b and c", () => b.node.isConnected(c.node.id) && c.node.isConnected(b.node.id));
  const { id } = c.node;
  await c.stop();
  await until("c gone", () => !a.node.isConnected(id) && !b.node.isConnected(id), 2_000);
  const again = await start(t, { dataDir });
  assert.equal(again.node.id, id, "the identity is kept");
  assert.deepEqual(again.node.key, meshKey, "the key is kept");
  await until("c back", () => a.node.isConnected(id) && b.node.isConnected(id));
});

test("dials at the same moment end in one link", async (t) => {
  const meshKey = generateMeshKey();
  const a = await start(t, { meshKey });
  const b = await start(t, { meshKey });
  await Promise.all([a.node.join(b.node.addresses()), b.node.join(a.node.addresses())]);
  await until("up", () => a.node.isConnected(b.node.id) && b.node.isConnected(a.node.id));
  let got = 0;
  b.node.onGroupFrame((_from, _payload, release) => {
    got += 1;
    release();
  });
  for (let n = 0; n < 10; n += 1) a.node.sendControl(b.node.id, new Uint8Array(3));
  await until("each frame once", () => got === 10);
});

test("a peer without the key or with another one gets nothing", async (t) => {
  const a = await start(t, { meshKey: generateMeshKey() });
  const wrong = await start(t, { meshKey: generateMeshKey() });
  await assert.rejects(
    wrong.node.join(a.node.addresses()),
    /Cannot join ".*": the node refused the mesh key; use a ticket/,
  );
  const none = await stranger(t);
  await assert.rejects(none.dial(multiaddr(a.node.addresses()[0])));
  assert.equal(a.node.peers().length, 0);
  await until("both counted", () => a.node.refusals.counters.get("handshakes_refused") >= 2);
});

test("a failed join leaves no key behind", async (t) => {
  const a = await start(t, { meshKey: generateMeshKey() });
  const dataDir = tempDir(t);
  const wrong = await start(t, { meshKey: generateMeshKey(), dataDir });
  await assert.rejects(wrong.node.join(a.node.addresses()));
  await wrong.stop();
  const right = await start(t, { meshKey: a.node.key, dataDir });
  assert.equal(await right.node.join(a.node.addresses()), a.node.id);
  await right.stop();
  await assert.rejects(
    start(t, { meshKey: generateMeshKey(), dataDir }),
    /belongs to another mesh/,
  );
});

test("joining says what is wrong", async (t) => {
  const a = await start(t);
  const [addr] = a.node.addresses();
  await assert.rejects(a.node.join([addr!]), /that is this node itself/);
  await assert.rejects(a.node.join(["/ip4/127.0.0.1/tcp/1"]), /must end in \/p2p/);
  const b = await start(t, { meshKey: a.node.key });
  const gone = addr!.replace(/tcp\/\d+/, "tcp/1");
  await assert.rejects(b.node.join([gone]), /nothing listens there/);
  const other = `${addr!.replace(/\/p2p\/.*/, "")}/p2p/${b.node.id}`;
  const c = await start(t, { meshKey: a.node.key });
  await assert.rejects(c.node.join([other]), /another node answered there/);
  await assert.rejects(
    start(t, { listen: [addr!.replace(/\/p2p\/.*/, "")] }),
    /Cannot listen on ".*": the port is in use/,
  );
});

async function rawSocket(t: TestContext, addr: string): Promise<Socket> {
  const port = Number(/tcp\/(\d+)/.exec(addr)?.[1]);
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  await once(socket, "connect");
  return socket;
}

test("garbage and silent sockets are dropped and harm nobody", async (t) => {
  const [a, b] = await pair(t);
  const [addr] = a.node.addresses();
  const silent = await Promise.all(Array.from({ length: 30 }, () => rawSocket(t, addr!)));
  const noisy = await rawSocket(t, addr!);
  noisy.write(Buffer.alloc(200_000, 0xa5));
  const slow = await rawSocket(t, addr!);
  const drip = setInterval(() => slow.write("\x13"), 100);
  t.after(() => clearInterval(drip));
  await until("all are closed", () => [...silent, noisy, slow].every((s) => s.closed), 8_000);
  clearInterval(drip);
  assert.ok(a.node.isConnected(b.node.id));
  const c = await start(t, { meshKey: a.node.key });
  await c.node.join(a.node.addresses());
});

test("a member that breaks the protocol loses its link only", async (t) => {
  const meshKey = generateMeshKey();
  const a = await start(t, { meshKey });
  // Only the peer with the lower id may open a link.
  let liar = await stranger(t, meshKey);
  while (liar.peerId.toString() > a.node.id) liar = await stranger(t, meshKey);
  const connection = await liar.dial(multiaddr(a.node.addresses()[0]));
  const counters = a.node.refusals.counters;
  const huge = await connection.newStream("/node-mesh/control/1");
  huge.send(new Uint8Array([0xff, 0xff, 0xff, 0x7f, 0]));
  const unknown = await connection.newStream("/node-mesh/bulk/1");
  const head = frameHead(99, 10);
  unknown.send(Buffer.concat([head, new Uint8Array(10)]));
  const nonsense = await connection.newStream("/node-mesh/control/1");
  nonsense.send(Buffer.concat([frameHead(frameType.hello, 4), new Uint8Array([1, 2, 3, 4])]));
  await until("three faults", () => counters.get("link_protocol_errors") >= 3);
  const many = await Promise.allSettled(
    Array.from({ length: 100 }, () => connection.newStream("/node-mesh/rpc/1")),
  );
  assert.ok(many.length === 100);
  const b = await start(t, { meshKey });
  await b.node.join(a.node.addresses());
  assert.ok(a.node.isConnected(b.node.id) || b.node.isConnected(a.node.id));
});

const ECHO = defineRpc({
  name: "test.echo",
  request: Type.Object({ text: Type.String({ maxLength: 2_000_000 }), fail: Type.Boolean() }),
  response: Type.Object({ text: Type.String(), from: Type.String() }),
});

const COUNT = defineRpcStream({
  name: "test.count",
  request: Type.Object({ to: Type.Integer(), bytes: Type.Integer() }),
  item: Type.Object({ n: Type.Integer(), data: Type.Uint8Array() }),
});

test("requests are answered, checked and limited", async (t) => {
  const [a, b] = await pair(t);
  for (const { node } of [a, b]) {
    node.rpc.register(ECHO, ({ text, fail }, { from }) => {
      if (fail) throw new Error("it is\nnot possible");
      return { text, from };
    });
  }
  const ask = (peer: string, text: string, fail = false) =>
    a.node.rpc.call(peer, ECHO, { text, fail });
  assert.deepEqual(await ask(b.node.id, "hello"), { text: "hello", from: a.node.id });
  assert.deepEqual(await ask(a.node.id, "self"), { text: "self", from: a.node.id });
  await assert.rejects(ask(b.node.id, "", true), (error: Error) => {
    assert.ok(error instanceof RpcRemoteError);
    assert.equal(error.message, "it is not possible");
    return true;
  });
  await assert.rejects(ask(b.node.id, "x".repeat(1_500_000)), RpcUnreachableError);
  const unknown = defineRpc({ name: "test.none", request: Type.Null(), response: Type.Null() });
  await assert.rejects(a.node.rpc.call(b.node.id, unknown, null), /there is no method "test.none"/);
  const bad = defineRpc({ name: "test.echo", request: Type.Unknown(), response: Type.Unknown() });
  await assert.rejects(a.node.rpc.call(b.node.id, bad, { text: 5 }), /is malformed at/);
  assert.ok(b.node.refusals.counters.get("rpc_refused") >= 2);
  const many = await Promise.all(Array.from({ length: 100 }, (_, n) => ask(b.node.id, `${n}`)));
  assert.deepEqual(
    many.map(({ text }) => Number(text)),
    [...many.keys()],
  );
});

test("a request ends when its time is over, its caller aborts, or the peer goes", async (t) => {
  const [a, b] = await pair(t);
  let aborted = 0;
  b.node.rpc.register(ECHO, (_request, { signal }) => {
    return new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => {
        aborted += 1;
        reject(signal.reason);
      });
    });
  });
  const request = { text: "", fail: false };
  const ask = (options: object) => a.node.rpc.call(b.node.id, ECHO, request, options);
  await assert.rejects(ask({ timeoutMs: 100 }), /no answer in time/);
  const reason = new Error("changed my mind");
  await assert.rejects(ask({ signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
  await assert.rejects(ask({ signal: AbortSignal.abort(reason) }), reason);
  await until("the handler hears it", () => aborted >= 2);
  const waiting = assert.rejects(ask({}), RpcUnreachableError);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await b.stop();
  await waiting;
});

test("item streams hold a fast sender up and end when the caller leaves", async (t) => {
  const [a, b] = await pair(t);
  let made = 0;
  let ended = 0;
  b.node.rpc.registerStream(COUNT, async function* items({ to, bytes }) {
    try {
      for (let n = 0; n < to; n += 1) {
        made += 1;
        yield { n, data: new Uint8Array(bytes) };
      }
    } finally {
      ended += 1;
    }
  });
  const seen: number[] = [];
  for await (const { n } of a.node.rpc.stream(b.node.id, COUNT, { to: 300, bytes: 20_000 })) {
    seen.push(n);
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 300 }, (_, n) => n),
  );
  made = 0;
  for await (const { n } of a.node.rpc.stream(b.node.id, COUNT, { to: 1e6, bytes: 20_000 })) {
    if (n > 3) await new Promise((resolve) => setTimeout(resolve, 20));
    if (n === 10) break;
  }
  assert.ok(made < 200, `${made} items were made for 10 taken`);
  await until("the handler ended", () => ended === 2);
});

test("a process with a stopped node ends by itself", async (t) => {
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const listen = JSON.stringify(LOOPBACK);
  const script = `
    import { openStorage } from ${url("../storage/storage.ts")};
    import { MeshNode } from ${url("./mesh_node.ts")};
    const nodes = [];
    for (const dir of process.argv.slice(1)) {
      const storage = await openStorage({ dataDir: dir });
      const meshKey = nodes[0]?.node.key;
      const options = meshKey === undefined ? {} : { meshKey };
      const node = await MeshNode.start({ meta: storage.meta, listen: ${listen}, ...options });
      nodes.push({ node, storage });
    }
    await nodes[1].node.join(nodes[0].node.addresses());
    for (const { node, storage } of nodes) { await node.stop(); await storage.close(); }
    console.log("stopped");`;
  const args = ["--input-type=module", "-e", script, tempDir(t), tempDir(t)];
  const run = promisify(execFile)(process.execPath, args, { timeout: 20_000 });
  assert.match((await run).stdout, /stopped/);
});
