/** Three nodes on loopback with real storage: commit, order, failover, restart, catching up. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Worker } from "node:worker_threads";
import { type Mesh, openMesh } from "../mesh.ts";
import type { Entry, Member, MemberRole } from "../raft/types.ts";
import type { WorkerSource } from "../storage/types.ts";
import { generateMeshKey } from "../transport/mesh_key.ts";
import type { Group, GroupHandler, RoleState } from "./types.ts";

const byKey = { admission: "key" } as const;
const LISTEN = ["/ip4/127.0.0.1/tcp/0"];

async function until(what: string, condition: () => boolean, limitMs = 15_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > end) assert.fail(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Notes what it is given, and checks that nothing is missing or out of order. */
class Recorder implements GroupHandler {
  readonly texts: string[] = [];
  readonly roles: RoleState[] = [];
  next = 1;
  role: RoleState | null = null;
  error: Error | null = null;
  hold: Promise<void> | null = null;

  onCommitted(entries: readonly Entry[]): void | Promise<void> {
    for (const { index, kind, data } of entries) {
      assert.equal(index, this.next);
      this.next += 1;
      if (kind === "data") this.texts.push(Buffer.from(data).toString("latin1", 0, 20));
    }
    if (this.hold !== null) return this.hold;
  }

  onRole(state: RoleState): void {
    this.role = state;
    this.roles.push(state);
  }

  onError(error: Error): void {
    this.error = error;
  }

  restart(): void {
    this.next = 1;
    this.texts.length = 0;
  }
}

interface Server {
  mesh: Mesh;
  group: Group;
  recorder: Recorder;
  readonly dataDir: string;
}

class Cluster {
  readonly servers: Server[] = [];
  readonly groupId: string;
  readonly #key = generateMeshKey();
  readonly #t: TestContext;
  members: Member[] = [];

  constructor(t: TestContext, groupId = "vm-1") {
    this.#t = t;
    this.groupId = groupId;
    t.after(() => Promise.all(this.servers.map(({ mesh }) => mesh.stop())));
  }

  static async start(
    t: TestContext,
    roles: readonly MemberRole[],
    options: { lastWorkerSource?: WorkerSource } = {},
  ): Promise<Cluster> {
    const cluster = new Cluster(t);
    const meshes: Mesh[] = [];
    for (const n of roles.keys()) {
      const { lastWorkerSource } = options;
      const isSpecial = lastWorkerSource !== undefined && n === roles.length - 1;
      const special = isSpecial ? { workerSource: lastWorkerSource } : {};
      const dataDir = mkdtempSync(join(tmpdir(), "node-mesh-group-"));
      t.after(() => rmSync(dataDir, { recursive: true, force: true }));
      const bootstrap = meshes[0]?.node.addresses() ?? [];
      const common = { dataDir, listen: LISTEN, meshKey: cluster.#key, bootstrap, ...byKey };
      meshes.push(await openMesh({ ...common, ...special }));
    }
    cluster.members = meshes.map(({ id }, n) => ({ id, role: roles[n]! }));
    for (const mesh of meshes) {
      const server = await cluster.#open(mesh);
      cluster.servers.push(server);
    }
    return cluster;
  }

  async #open(mesh: Mesh): Promise<Server> {
    const { groupId, members } = this;
    await mesh.groups.create({ groupId, members, info: Buffer.from("spec") });
    const recorder = new Recorder();
    const group = await mesh.groups.open(groupId, recorder);
    return { mesh, group, recorder, dataDir: mesh.storage.dataDir };
  }

  /** Starts a stopped server again from its own data. */
  async restart(server: Server): Promise<void> {
    const mesh = await openMesh({ dataDir: server.dataDir, listen: LISTEN, ...byKey });
    const again = await this.#open(mesh);
    Object.assign(server, again);
    this.#t.after(() => mesh.stop());
  }

  async leader(among: readonly Server[] = this.servers): Promise<Server> {
    const lead = () => among.find(({ recorder }) => recorder.role?.readyToLead === true);
    await until("a leader", () => lead() !== undefined);
    return lead()!;
  }
}

async function propose(leader: Server, text: string): Promise<void> {
  await until("a proposal is taken", () => leader.group.propose(Buffer.from(text)) !== null);
}

async function same(servers: readonly Server[], texts: readonly string[]): Promise<void> {
  await until(`all have ${texts.length}`, () =>
    servers.every(({ recorder }) => recorder.texts.length >= texts.length),
  );
  for (const { recorder } of servers) assert.deepEqual(recorder.texts, texts);
}

test("entries reach all members in order, and status tells about it", async (t) => {
  const cluster = await Cluster.start(t, ["replica", "replica", "replica"]);
  const leader = await cluster.leader();
  const texts = Array.from({ length: 200 }, (_, n) => `entry ${n}`);
  for (const text of texts) await propose(leader, text);
  await same(cluster.servers, texts);
  const status = leader.group.status();
  assert.equal(status.role, "leader");
  assert.equal(status.commitLatencyMs.count, 200);
  assert.ok(status.commitLatencyMs.p50 < 200, `${status.commitLatencyMs.p50} ms`);
  assert.equal(status.followers.length, 2);
  assert.deepEqual(
    leader.mesh.groups.list().map(({ id, opened }) => [id, opened]),
    [["vm-1", true]],
  );
});

test("when the leader's node ends another one leads, and it catches up later", async (t) => {
  const cluster = await Cluster.start(t, ["replica", "replica", "replica"]);
  const first = await cluster.leader();
  await propose(first, "one");
  await same(cluster.servers, ["one"]);
  const others = cluster.servers.filter((server) => server !== first);
  await until("all are linked", () =>
    others.every(({ mesh }) => mesh.node.peers().filter((peer) => peer.connected).length === 2),
  );
  const start = performance.now();
  await first.mesh.stop();
  const second = await cluster.leader(others);
  assert.ok(performance.now() - start < 1_500, `${performance.now() - start} ms`);
  await propose(second, "two");
  await same(others, ["one", "two"]);
  await cluster.restart(first);
  await same(cluster.servers, ["one", "two"]);
  await propose(second, "three");
  await same(cluster.servers, ["one", "two", "three"]);
});

test("a member far behind is brought up from storage", async (t) => {
  const cluster = await Cluster.start(t, ["replica", "replica", "replica"]);
  const leader = await cluster.leader();
  const slow = cluster.servers.find((server) => server !== leader)!;
  await slow.mesh.stop();
  const rest = cluster.servers.filter((server) => server !== slow);
  const texts: string[] = [];
  for (let n = 0; n < 300; n += 1) {
    const text = `entry ${n} `.padEnd(40_000, "x");
    await propose(leader, text);
    texts.push(text.slice(0, 20));
  }
  await same(rest, texts);
  await cluster.restart(slow);
  await same(cluster.servers, texts);
});

test("a slow handler holds up nobody else and misses nothing", async (t) => {
  const cluster = await Cluster.start(t, ["replica", "replica", "replica"]);
  const leader = await cluster.leader();
  const slow = cluster.servers.find((server) => server !== leader)!;
  const gate = Promise.withResolvers<void>();
  slow.recorder.hold = gate.promise;
  const texts: string[] = [];
  for (let n = 0; n < 200; n += 1) {
    const text = `entry ${n} `.padEnd(40_000, "x");
    await propose(leader, text);
    texts.push(text.slice(0, 20));
  }
  await same(
    cluster.servers.filter((server) => server !== slow),
    texts,
  );
  assert.ok(slow.recorder.texts.length < 200);
  slow.recorder.hold = null;
  gate.resolve();
  await same(cluster.servers, texts);
});

test("delivery may begin again", async (t) => {
  const cluster = await Cluster.start(t, ["replica", "replica", "replica"]);
  const leader = await cluster.leader();
  for (const text of ["a", "b", "c"]) await propose(leader, text);
  await same(cluster.servers, ["a", "b", "c"]);
  leader.recorder.roles.length = 0;
  leader.recorder.restart();
  leader.group.redeliver();
  await same(cluster.servers, ["a", "b", "c"]);
  await until("ready again", () => leader.recorder.role?.readyToLead === true);
  assert.deepEqual(
    leader.recorder.roles.map(({ readyToLead }) => readyToLead),
    [false, true],
  );
});

test("leadership can be handed over, and a witness hands it on", async (t) => {
  const cluster = await Cluster.start(t, ["replica", "replica", "witness"]);
  const first = await cluster.leader();
  assert.notEqual(first.mesh.id, cluster.members[2]!.id);
  const other = cluster.servers.slice(0, 2).find((server) => server !== first)!;
  await propose(first, "one");
  await same(cluster.servers, ["one"]);
  assert.ok(first.group.transferLeadership(other.mesh.id));
  await until("the other leads", () => other.recorder.role?.readyToLead === true);
  await propose(other, "two");
  await same(cluster.servers, ["one", "two"]);
  await other.mesh.stop();
  const rest = cluster.servers.filter((server) => server !== other);
  const next = await cluster.leader([first]);
  await propose(next, "three");
  await same(rest, ["one", "two", "three"]);
});

test("a group may be destroyed; its id is refused and late members are told", async (t) => {
  const cluster = await Cluster.start(t, ["replica", "replica", "replica"]);
  const leader = await cluster.leader();
  await propose(leader, "one");
  await same(cluster.servers, ["one"]);
  const late = cluster.servers.find((server) => server !== leader)!;
  const told: string[] = [];
  late.mesh.groups.onGone((groupId, from) => told.push(`${groupId} ${from}`));
  for (const server of cluster.servers) if (server !== late) await server.group.destroy();
  await until("told", () => told.length > 0);
  assert.ok(told[0]!.startsWith("vm-1 "));
  const { groups } = leader.mesh;
  assert.ok(groups.isDestroyed("vm-1"));
  assert.deepEqual(groups.list(), []);
  const spec = { groupId: "vm-1", members: cluster.members, info: Buffer.from("spec") };
  await assert.rejects(groups.create(spec), /was destroyed here/);
  await assert.rejects(groups.open("vm-1", new Recorder()), /does not hold it/);
});

test("bad groups are refused", async (t) => {
  const cluster = await Cluster.start(t, ["replica"]);
  const [{ mesh }] = cluster.servers as [Server];
  const { groups } = mesh;
  const members = cluster.members;
  const info = Buffer.from("spec");
  await assert.rejects(groups.create({ groupId: "no spaces", members, info }), /the id must be/);
  await assert.rejects(groups.create({ groupId: "x", members: [], info }), /Cannot create group/);
  const others: Member[] = [{ id: "somebody", role: "replica" }];
  await assert.rejects(groups.create({ groupId: "x", members: others, info }), /not a member/);
  await assert.rejects(
    groups.create({ groupId: "vm-1", members, info: Buffer.from("other") }),
    /another group of this id/,
  );
  await groups.create({ groupId: "vm-1", members, info });
  await assert.rejects(groups.open("vm-1", new Recorder()), /it is open already/);
  await assert.rejects(groups.open("vm-2", new Recorder()), /does not hold it/);
});

test("a group of one leads itself and keeps its log", async (t) => {
  const cluster = await Cluster.start(t, ["replica"]);
  const leader = await cluster.leader();
  for (const text of ["a", "b"]) await propose(leader, text);
  await same([leader], ["a", "b"]);
  await leader.mesh.stop();
  await cluster.restart(leader);
  await cluster.leader();
  await same([leader], ["a", "b"]);
});

/** A database that may not grow beyond some pages reports what a full disk would. */
const smallDisk: WorkerSource = (options) => {
  const code = `
    import { DatabaseSync } from "node:sqlite";
    const { exec } = DatabaseSync.prototype;
    DatabaseSync.prototype.exec = function (sql) {
      if (sql.startsWith("BEGIN")) this.prepare("PRAGMA max_page_count = 300").get();
      return exec.call(this, sql);
    };
    await import(${JSON.stringify(new URL("../storage/worker.ts", import.meta.url).href)});`;
  return new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), options);
};

test("a member with a full disk falls silent, and goes on when there is space", async (t) => {
  const roles: MemberRole[] = ["replica", "replica", "witness"];
  const cluster = await Cluster.start(t, roles, { lastWorkerSource: smallDisk });
  const full = cluster.servers[2]!;
  const leader = await cluster.leader();
  const texts: string[] = [];
  for (let n = 0; n < 60; n += 1) {
    const text = `entry ${n} `.padEnd(40_000, "x");
    await propose(leader, text);
    texts.push(text.slice(0, 20));
  }
  await same(cluster.servers.slice(0, 2), texts);
  await until("it has stopped", () => full.recorder.error !== null);
  assert.match(full.recorder.error!.message, /Cannot write the log database .* the disk is full/);
  assert.equal(full.mesh.counters.get("groups_failed"), 1);
  assert.match(full.group.status().failed!, /the disk is full/);
  await full.mesh.stop();
  await cluster.restart(full);
  await same(cluster.servers, texts);
});

test("a handler that fails stops its group on this node only", async (t) => {
  const cluster = await Cluster.start(t, ["replica", "replica", "replica"]);
  const leader = await cluster.leader();
  leader.recorder.onCommitted = () => {
    throw new Error("the copy is broken");
  };
  await propose(leader, "one");
  await until("it stopped", () => leader.recorder.error !== null);
  assert.match(leader.group.status().failed ?? "", /the copy is broken/);
  assert.equal(leader.group.propose(new Uint8Array(1)), null);
  const rest = cluster.servers.filter((server) => server !== leader);
  const next = await cluster.leader(rest);
  await propose(next, "two");
  await same(rest, ["one", "two"]);
});
