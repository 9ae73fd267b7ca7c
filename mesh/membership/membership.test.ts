/** Facts alone, and real nodes on loopback: who gets in, who does not, who has to go. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { Type } from "@sinclair/typebox";
import fc from "fast-check";
import { silentLog } from "../counters.ts";
import { type Mesh, type MeshOptions, openMesh } from "../mesh.ts";
import type { MetaStore } from "../storage/storage.ts";
import { generateMeshKey } from "../transport/mesh_key.ts";
import { defineRpc } from "../transport/rpc.ts";
import { decodeTicket } from "../transport/ticket.ts";
import { signFact } from "./facts.ts";
import { Membership } from "./membership.ts";
import { type MeshRole, meshRoles } from "./roles.ts";

const LISTEN = ["/ip4/127.0.0.1/tcp/0"];
const DAY_MS = 24 * 3_600_000;
const anyTime = { roles: meshRoles, uses: 0, lifeMs: DAY_MS };

function memoryMeta(): MetaStore {
  const values = new Map<string, Uint8Array>();
  return {
    get: (key) => values.get(key),
    keys: (prefix) => [...values.keys()].filter((key) => key.startsWith(prefix)),
    put: async (key, value) => {
      if (value === null) values.delete(key);
      else values.set(key, value);
    },
  };
}

/** A member without a network. */
async function paperNode(meshKey: Uint8Array, options: { joins?: boolean; nowMs?: number } = {}) {
  const privateKey = await generateKeyPair("Ed25519");
  const self = peerIdFromPrivateKey(privateKey).toString();
  const clock = { nowMs: options.nowMs ?? 1_000_000 };
  const meta = memoryMeta();
  const init = { self, privateKey, meshKey, meta, wallMs: () => clock.nowMs, log: silentLog };
  const membership = await Membership.open(init, { joins: options.joins ?? false });
  return { id: self, membership, clock, init };
}

type PaperNode = Awaited<ReturnType<typeof paperNode>>;

async function enter(newcomer: PaperNode, secret: Uint8Array, sponsor: PaperNode): Promise<void> {
  await sponsor.membership.admit(newcomer.id, await newcomer.membership.claim(secret));
  const facts = sponsor.membership.facts().map(({ bytes }) => bytes);
  assert.ok(await newcomer.membership.adopt(sponsor.membership.root ?? "", facts));
}

async function told(from: PaperNode, to: PaperNode): Promise<number> {
  return to.membership.learn(from.membership.facts().map(({ bytes }) => bytes));
}

function picture({ membership }: PaperNode): unknown {
  const members = membership.members().map(({ id, roles }) => [id, [...roles].sort().join()]);
  const tickets = membership
    .tickets()
    .map((ticket) => [ticket.ticket, ticket.isRevoked, ticket.used.join()]);
  return JSON.stringify([members.sort(), tickets.sort()]);
}

test("tickets let in until they expire, are revoked or used up", async () => {
  const key = generateMeshKey();
  const root = await paperNode(key);
  const order = { roles: ["lend"] as MeshRole[], uses: 1, lifeMs: 1_000 };
  const { secret } = await root.membership.createTicket(order);
  const b = await paperNode(key, { joins: true });
  await enter(b, secret, root);
  assert.deepEqual(b.membership.rolesOf(b.id), ["lend"]);
  const c = await paperNode(key, { joins: true });
  await assert.rejects(enter(c, secret, root), /used up; ask for a new ticket/);
  const short = await root.membership.createTicket(order);
  root.clock.nowMs += 2_000;
  await assert.rejects(enter(c, short.secret, root), /has expired/);
  const revoked = await root.membership.createTicket(anyTime);
  await root.membership.revokeTicket(revoked.ticket.ticket);
  await assert.rejects(enter(c, revoked.secret, root), /was revoked/);
  assert.equal(root.membership.mayKnock(c.id), false, "no ticket is open");
  const stolen = await b.membership.claim((await root.membership.createTicket(anyTime)).secret);
  await assert.rejects(root.membership.admit(c.id, stolen), /the ticket is no good/);
  const unknown = await c.membership.claim(generateMeshKey());
  await assert.rejects(root.membership.admit(c.id, unknown), /not known here/);
  await assert.rejects(b.membership.createTicket(anyTime), /has not the role "administer"/);
});

test("a member that may not administer states what it likes, and nobody heeds it", async () => {
  const key = generateMeshKey();
  const root = await paperNode(key);
  const { secret } = await root.membership.createTicket({ ...anyTime, roles: ["lend", "use"] });
  const b = await paperNode(key, { joins: true });
  await enter(b, secret, root);
  const sign = { key: b.init.privateKey, meshKey: key };
  const at = 2 ** 48;
  const lies = await Promise.all([
    signFact({ kind: "roles", id: b.id, roles: [...meshRoles], at }, sign),
    signFact({ kind: "remove", id: root.id, at }, sign),
    signFact({ kind: "found", at: 0 }, sign),
    signFact({ kind: "ticket", ticket: b.id, roles: [], uses: 0, expires: at, at }, sign),
  ]);
  const before = picture(root);
  assert.equal(await root.membership.learn(lies.map(({ bytes }) => bytes)), lies.length);
  const forged = Uint8Array.from(lies[0]!.bytes);
  forged[forged.length - 10]! ^= 1;
  assert.equal(await root.membership.learn([forged]), 1);
  const foreign = { key: root.init.privateKey, meshKey: generateMeshKey() };
  const other = await signFact({ kind: "remove", id: b.id, at: root.clock.nowMs }, foreign);
  assert.equal(await root.membership.learn([other.bytes]), 1, "a fact of another mesh");
  assert.equal(picture(root), before);
});

test("a removal is for ever, whatever is said before or after it", async () => {
  const key = generateMeshKey();
  const root = await paperNode(key);
  const { secret } = await root.membership.createTicket(anyTime);
  const b = await paperNode(key, { joins: true });
  const c = await paperNode(key, { joins: true });
  await enter(b, secret, root);
  await enter(c, secret, root);
  await told(root, b);
  await root.membership.remove(c.id);
  // Another administrator does not know yet, and gives the removed one a role.
  b.clock.nowMs += 60_000;
  await b.membership.setRoles(c.id, ["lend"]);
  await told(b, root);
  await told(root, b);
  assert.equal(picture(root), picture(b));
  assert.equal(root.membership.isMember(c.id), false);
  await assert.rejects(enter(c, secret, root), /was removed from the mesh/);
  await root.membership.remove(b.id);
  await assert.rejects(root.membership.remove(root.id), /the last administrator/);
});

test("parts of a mesh that met again agree, in whatever order they hear the facts", async () => {
  const key = generateMeshKey();
  const root = await paperNode(key);
  const single = await root.membership.createTicket({ ...anyTime, uses: 1 });
  const many = await root.membership.createTicket(anyTime);
  const nodes = [root];
  for (let n = 0; n < 3; n += 1) {
    const node = await paperNode(key, { joins: true });
    await enter(node, many.secret, root);
    nodes.push(node);
  }
  for (const node of nodes) await told(root, node);
  const [, left, right, third] = nodes as [PaperNode, PaperNode, PaperNode, PaperNode];
  // In two parts: the same single ticket is used in each, roles change, one is removed.
  const x = await paperNode(key, { joins: true });
  const y = await paperNode(key, { joins: true });
  left.clock.nowMs += 10;
  await enter(x, single.secret, left);
  await enter(y, single.secret, right);
  await left.membership.setRoles(third.id, ["use"]);
  await right.membership.remove(third.id);
  await left.membership.revokeTicket(many.ticket.ticket);
  const all = [...left.membership.facts(), ...right.membership.facts()].map(({ bytes }) => bytes);
  const pictures = new Set<unknown>();
  const runs = fc.asyncProperty(
    fc.shuffledSubarray(all, { minLength: all.length }),
    fc.integer({ min: 1, max: all.length }),
    async (order, step) => {
      const first = root.membership.facts().map(({ bytes }) => bytes);
      // A node that knows no more than the root did, and hears the rest in this order.
      const view = await Membership.open({ ...root.init, meta: memoryMeta() }, { joins: true });
      assert.ok(await view.adopt(root.id, first));
      for (let at = 0; at < order.length; at += step) await view.learn(order.slice(at, at + step));
      // What did not count when it was heard is told again, as members do when they meet.
      for (let round = 0; round < 4; round += 1) await view.learn(all);
      pictures.add(picture({ ...root, membership: view }));
    },
  );
  await fc.assert(runs, { numRuns: 20 });
  assert.equal(pictures.size, 1);
  await told(left, right);
  await told(right, left);
  await told(left, right);
  assert.equal(picture(left), picture(right));
  assert.equal(left.membership.isMember(third.id), false);
  assert.ok(left.membership.isMember(y.id) !== left.membership.isMember(x.id), "one use");
});

async function until(what: string, condition: () => boolean, limitMs = 10_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > end) assert.fail(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function tempDir(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "node-mesh-membership-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function start(t: TestContext, options: Partial<MeshOptions> = {}): Promise<Mesh> {
  const mesh = await openMesh({ dataDir: tempDir(t), listen: LISTEN, ...options });
  t.after(() => mesh.stop());
  return mesh;
}

async function joined(t: TestContext, ticket: string, dataDir = tempDir(t)): Promise<Mesh> {
  const target = decodeTicket(ticket);
  const mesh = await start(t, { dataDir, meshKey: target.key, joins: true });
  await mesh.join(target);
  return mesh;
}

test("nodes join by ticket, learn of each other, and come back without one", async (t) => {
  const a = await start(t);
  const b = await joined(t, await a.createTicket(anyTime));
  const dataDir = tempDir(t);
  // Any member lets in, not only the one that made the ticket.
  const c = await joined(t, await b.createTicket({ ...anyTime, uses: 1 }), dataDir);
  await until("a and c", () => a.node.isConnected(c.id) && c.node.isConnected(a.id));
  assert.equal(a.membership.members().length, 3);
  const { id } = c;
  await c.stop();
  const again = await start(t, { dataDir });
  await until("c back", () => a.node.isConnected(id) && b.node.isConnected(id));
  assert.deepEqual(again.membership.rolesOf(id), meshRoles);
});

test("without a good ticket the key alone opens nothing", async (t) => {
  const a = await start(t);
  const text = await a.createTicket({ ...anyTime, uses: 1 });
  await joined(t, text);
  await assert.rejects(joined(t, text), /refused this node; the ticket may be used up or expired/);
  await until("counted", () => a.counters.get("peers_refused") >= 1);
  await a.createTicket(anyTime);
  await assert.rejects(joined(t, text), /the ticket was used up; ask for a new ticket/);
  assert.ok(a.counters.get("joins_refused") >= 1);
  // A stranger with the key, while tickets are open: it may knock, and nothing else.
  const stranger = await start(t, { meshKey: a.key, admission: "key" });
  const signal = AbortSignal.timeout(1_500);
  await assert.rejects(stranger.node.join(a.node.addresses(), { signal }), /timeout/);
  assert.equal(a.node.isConnected(stranger.id), false);
  const ask = defineRpc({ name: "vm.report", request: Type.Object({}), response: Type.Unknown() });
  await assert.rejects(stranger.node.rpc.call(a.id, ask, {}));
  await until("it is counted", () => a.counters.get("strangers_refused") > 0);
  assert.equal(
    a.directory.nodes().some((node) => node.id === stranger.id),
    false,
  );
});

test("a removed node is cut off everywhere and stays out", async (t) => {
  const a = await start(t);
  const ticket = await a.createTicket(anyTime);
  const b = await joined(t, ticket);
  const dataDir = tempDir(t);
  const c = await joined(t, ticket, dataDir);
  await until("all", () => b.node.isConnected(c.id) && a.node.isConnected(c.id));
  await a.membership.remove(c.id);
  await until("cut off", () => !a.node.isConnected(c.id) && !b.node.isConnected(c.id));
  await until("it knows", () => !c.membership.belongs);
  await c.stop();
  const again = await start(t, { dataDir });
  const known = decodeTicket(ticket);
  await assert.rejects(again.join(known), /Cannot join/);
  assert.equal(a.node.isConnected(again.id) || b.node.isConnected(again.id), false);
});
