/**
 * Three processes under load while they are killed with kill -9, one by one and all at once.
 * Nothing that any of them delivered may be missing or different anywhere afterwards.
 */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { MemberRole } from "../raft/types.ts";
import { ProcessCluster, type ServerProcess } from "./process_cluster.ts";
import type { ServerEvent } from "./server_process.ts";

/** What was delivered, by index; the same on every server, for ever. */
class History {
  readonly texts: string[] = [];
  readonly through = new Map<ServerProcess, number>();

  note(server: ServerProcess, event: ServerEvent): void {
    assert.notEqual(event.kind, "failed", `server ${server.index}: ${JSON.stringify(event)}`);
    if (event.kind === "ready") this.through.set(server, 0);
    if (event.kind !== "delivered") return;
    assert.equal(event.from, (this.through.get(server) ?? 0) + 1, "without gaps");
    for (const [n, text] of event.texts.entries()) {
      const index: number = event.from + n;
      this.texts[index] ??= text;
      assert.equal(this.texts[index], text, `entry ${index} on server ${server.index}`);
    }
    this.through.set(server, event.from + event.texts.length - 1);
  }

  get last(): number {
    return this.texts.length - 1;
  }
}

async function start(
  t: TestContext,
  roles: readonly MemberRole[],
): Promise<{ cluster: ProcessCluster; history: History }> {
  const history = new History();
  const failures: unknown[] = [];
  const cluster = new ProcessCluster((server, event) => {
    try {
      history.note(server, event);
    } catch (error) {
      failures.push(error);
    }
  });
  t.after(async () => {
    await cluster.stop();
    assert.deepEqual(failures, []);
  });
  await cluster.start(roles);
  for (const server of cluster.servers) cluster.tell(server, { kind: "load" });
  await cluster.until("the first entries", () => history.last > 50);
  return { cluster, history };
}

async function bringBack(cluster: ProcessCluster, server: ServerProcess): Promise<void> {
  await cluster.restart(server);
  cluster.tell(server, { kind: "load" });
}

async function allCaughtUp(cluster: ProcessCluster, history: History): Promise<void> {
  const goal = history.last;
  await cluster.until("all have caught up", () =>
    cluster.servers.every((server) => (history.through.get(server) ?? 0) >= goal),
  );
}

test("the leader is killed again and again; nothing is lost", { timeout: 120_000 }, async (t) => {
  const { cluster, history } = await start(t, ["replica", "replica", "replica"]);
  const pausesMs: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    await cluster.until("a leader", () => cluster.leader !== undefined);
    await allCaughtUp(cluster, history);
    const leader = cluster.leader!;
    await cluster.kill(leader);
    const killedMs = performance.now();
    const before = history.last;
    await cluster.until("entries go on", () => history.last > before + 1);
    pausesMs.push(performance.now() - killedMs);
    await bringBack(cluster, leader);
    await allCaughtUp(cluster, history);
  }
  pausesMs.sort((a, b) => a - b);
  t.diagnostic(`pauses of ${pausesMs.map((ms) => ms.toFixed(0)).join(", ")} ms`);
  assert.ok(pausesMs[2]! < 1_000, `median pause ${pausesMs[2]} ms`);
});

test("a follower and the witness are killed; entries go on", { timeout: 60_000 }, async (t) => {
  const { cluster, history } = await start(t, ["replica", "replica", "witness"]);
  const witness = cluster.servers[2]!;
  for (const pick of [() => witness, () => cluster.servers.slice(0, 2).find((s) => !s.leads)!]) {
    await cluster.until("a leader", () => cluster.leader !== undefined);
    const victim = pick();
    await cluster.kill(victim);
    const before = history.last;
    await cluster.until("entries go on", () => history.last > before + 100);
    await bringBack(cluster, victim);
    await allCaughtUp(cluster, history);
  }
});

test("a leader that stands still is replaced and comes back", { timeout: 60_000 }, async (t) => {
  const { cluster, history } = await start(t, ["replica", "replica", "replica"]);
  await cluster.until("a leader", () => cluster.leader !== undefined);
  const leader = cluster.leader!;
  leader.child?.kill("SIGSTOP");
  const before = history.last;
  const isOtherLeading = () => cluster.servers.some((s) => s !== leader && s.leads);
  await cluster.until("another leads", isOtherLeading);
  await cluster.until("entries go on", () => history.last > before + 100);
  leader.child?.kill("SIGCONT");
  await cluster.until("it follows", () => !leader.leads);
  await allCaughtUp(cluster, history);
});

test("all are killed at once and come back with everything", { timeout: 60_000 }, async (t) => {
  const { cluster, history } = await start(t, ["replica", "replica", "witness"]);
  for (let round = 0; round < 2; round += 1) {
    await Promise.all(cluster.servers.map((server) => cluster.kill(server)));
    const before = history.last;
    for (const server of [...cluster.servers].reverse()) await bringBack(cluster, server);
    await cluster.until("entries go on", () => history.last > before + 50);
    await allCaughtUp(cluster, history);
  }
});
