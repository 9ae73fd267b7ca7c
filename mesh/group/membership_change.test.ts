/** Real nodes on loopback: members come and go, logs are cut, and a late member is seeded. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type Mesh, openMesh } from "../mesh.ts";
import type { Entry, Member, MemberRole } from "../raft/types.ts";
import { generateMeshKey } from "../transport/mesh_key.ts";
import type { Group, GroupHandler } from "./types.ts";

const groupId = "vm-1";
const info = Buffer.from("spec");

async function until(what: string, condition: () => boolean, limitMs = 15_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > end) assert.fail(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

class Recorder implements GroupHandler {
  readonly texts: string[] = [];
  first = 0;
  readyToLead = false;

  onCommitted(entries: readonly Entry[]): void {
    if (this.first === 0) this.first = entries[0]?.index ?? 0;
    for (const { kind, data } of entries) {
      if (kind === "data") this.texts.push(Buffer.from(data).toString("latin1"));
    }
  }

  onRole(state: { readyToLead: boolean }): void {
    this.readyToLead = state.readyToLead;
  }
}

interface Server {
  readonly mesh: Mesh;
  recorder: Recorder;
  group: Group | null;
}

async function servers(t: TestContext, count: number): Promise<Server[]> {
  const meshKey = generateMeshKey();
  const list: Server[] = [];
  for (let n = 0; n < count; n += 1) {
    const dataDir = mkdtempSync(join(tmpdir(), "node-mesh-change-"));
    const bootstrap = list[0]?.mesh.node.addresses() ?? [];
    const listen = ["/ip4/127.0.0.1/tcp/0"];
    const mesh = await openMesh({ dataDir, listen, meshKey, bootstrap, admission: "key" });
    t.after(async () => {
      await mesh.stop();
      rmSync(dataDir, { recursive: true, force: true });
    });
    list.push({ mesh, recorder: new Recorder(), group: null });
  }
  const links = count - 1;
  await until("all are linked", () =>
    list.every(({ mesh }) => mesh.node.peers().filter((p) => p.connected).length === links),
  );
  return list;
}

async function open(server: Server, members: readonly Member[], joins = false): Promise<void> {
  await server.mesh.groups.create({ groupId, members, info, joins });
  server.recorder = new Recorder();
  server.group = await server.mesh.groups.open(groupId, server.recorder);
}

function memberOf(server: Server, role: MemberRole): Member {
  return { id: server.mesh.id, role };
}

async function leaderOf(list: readonly Server[]): Promise<Server> {
  const find = () => list.find(({ recorder }) => recorder.readyToLead);
  await until("a leader", () => find() !== undefined);
  return find() as Server;
}

async function propose(leader: Server, text: string): Promise<void> {
  await until("a proposal is taken", () => leader.group?.propose(Buffer.from(text)) != null);
}

/** Changes the members one step, and waits until that is committed. */
async function change(leader: Server, members: readonly Member[]): Promise<void> {
  const { group } = leader;
  await until("a change is taken", () => group?.changeMembers(members) != null);
  await until("it is committed", () => group!.soft.commit >= group!.membersIndex);
}

async function have(list: readonly Server[], count: number): Promise<void> {
  await until(`all have ${count}`, () =>
    list.every(({ recorder }) => recorder.texts.length >= count),
  );
}

test("a node is added, caught up, promoted, and takes the place of one that is removed", async (t) => {
  const [a, b, c, d] = (await servers(t, 4)) as [Server, Server, Server, Server];
  const first = [memberOf(a, "replica"), memberOf(b, "replica"), memberOf(c, "witness")];
  for (const server of [a, b, c]) await open(server, first);
  let leader = await leaderOf([a, b]);
  for (let n = 0; n < 50; n += 1) await propose(leader, `entry ${n}`);
  await open(d, first, true);
  await change(leader, [...first, memberOf(d, "learner")]);
  await have([d], 50);
  await change(leader, [...first, memberOf(d, "replica")]);
  assert.equal(leader.group?.transferLeadership(d.mesh.id), true);
  leader = await leaderOf([d]);
  const left = [memberOf(b, "replica"), memberOf(c, "witness"), memberOf(d, "replica")];
  await change(leader, left);
  await a.group?.leave();
  assert.deepEqual(a.mesh.groups.list(), []);
  await propose(leader, "without a");
  await have([b, c, d], 51);
  // The one that left comes back with nothing, and is a member like any other.
  await open(a, first, true);
  await change(leader, [...left, memberOf(a, "learner")]);
  await have([a], 51);
  assert.deepEqual(a.recorder.texts, d.recorder.texts);
  await change(leader, [...left, memberOf(a, "replica")]);
  assert.equal(a.mesh.groups.isDestroyed(groupId), false);
});

test("a member that needs what was cut says so, is seeded, and follows the log", async (t) => {
  const [a, b, c] = (await servers(t, 3)) as [Server, Server, Server];
  const first = [memberOf(a, "replica"), memberOf(b, "replica")];
  for (const server of [a, b]) await open(server, first);
  const leader = await leaderOf([a, b]);
  for (let n = 0; n < 300; n += 1) await propose(leader, `entry ${n}`);
  await have([a, b], 300);
  const at = leader.group!.status().delivered - 20;
  const seed = leader.group!.seedAt(at);
  assert.deepEqual(seed?.members, first);
  assert.equal(await leader.group?.cut(at, "checkpoint-1"), true);
  assert.equal(await leader.group?.cut(at, "checkpoint-1"), false, "it is cut there already");
  assert.equal(await leader.group?.cut(at + 1_000, "beyond"), false);
  assert.equal(leader.group?.base?.index, at);
  await open(c, first, true);
  await change(leader, [...first, memberOf(c, "learner")]);
  const needs = () => leader.group?.status().followers.find(({ id }) => id === c.mesh.id);
  await until("it needs a seed", () => needs()?.needsSeed === true);
  await c.group?.close();
  await c.mesh.groups.seed(groupId, { ...seed!, checkpoint: "checkpoint-1" });
  c.recorder = new Recorder();
  c.group = await c.mesh.groups.open(groupId, c.recorder);
  assert.deepEqual([c.group.base?.index, c.group.base?.checkpoint], [at, "checkpoint-1"]);
  await propose(leader, "after the seed");
  await have([c], 21);
  assert.equal(c.recorder.first, at + 1);
  assert.deepEqual(c.recorder.texts, leader.recorder.texts.slice(-c.recorder.texts.length));
  assert.equal(needs()?.needsSeed, false);
  // The leader itself begins behind the cut when it is opened again.
  await leader.group?.close();
  leader.recorder = new Recorder();
  leader.group = await leader.mesh.groups.open(groupId, leader.recorder);
  await until("it has delivered", () => leader.recorder.texts.includes("after the seed"));
  assert.equal(leader.recorder.first, at + 1);
});
