import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Member } from "../../mesh/mod.ts";
import { FakeGroup, FakeVmm, fakeChunk, fakeSpec } from "./_fakes.ts";
import { encodeEntry } from "./vm_entries.ts";
import { NotPrimaryError, VmSupervisor } from "./vm_supervisor.ts";

const members: readonly Member[] = [
  { id: "a", role: "replica" },
  { id: "b", role: "replica" },
  { id: "w", role: "witness" },
];

function setUp(self = "a") {
  const vmms: FakeVmm[] = [];
  const group = new FakeGroup(members);
  let removed = 0;
  const supervisor = new VmSupervisor({
    spec: fakeSpec(members),
    self,
    factory: (handlers) => {
      const vmm = new FakeVmm(handlers);
      vmms.push(vmm);
      return vmm;
    },
    images: async () => ({ kernel: "/k", initrd: null }),
    log: { info: () => {}, warn: () => {} },
    onChange: () => {},
    onRemoved: () => {
      removed += 1;
    },
    now: () => performance.now(),
  });
  group.handler = supervisor;
  supervisor.start(group);
  const text = (): string => supervisor.hub.read(0).bytes.toString();
  return { vmms, group, supervisor, text, removed: () => removed };
}

async function setUpLive() {
  const all = setUp();
  await turn();
  await all.group.lead(2);
  all.vmms[0]?.live(0);
  return { ...all, vmm: all.vmms[0] as FakeVmm };
}

test("a follower feeds committed chunks to its copy in order and shows what it says", async () => {
  const { vmms, group, supervisor, text } = setUp();
  group.log.push({ index: 1, term: 1, kind: "noop", data: new Uint8Array() });
  for (const number of [0, 1]) {
    const data = encodeEntry({ kind: "chunk", chunk: fakeChunk(number) });
    group.log.push({ index: number + 2, term: 1, kind: "data", data });
  }
  await group.commit();
  assert.deepEqual(vmms[0]?.chunks, [fakeChunk(0), fakeChunk(1)]);
  vmms[0]?.say(0, "hello");
  assert.equal(text(), "hello");
  assert.equal(supervisor.state, "following");
});

test("an Ethernet frame of a live copy leaves when its chunk is committed, not before", async () => {
  const { vmm, group, supervisor } = await setUpLive();
  const frame = (number: number) => ({ number, bytes: Buffer.alloc(60, number) });
  vmm.handlers.onChunk(fakeChunk(0));
  vmm.handlers.onFrame(frame(0));
  vmm.handlers.onChunk(fakeChunk(1));
  vmm.handlers.onFrame(frame(1));
  assert.equal(supervisor.frames.end, 0);
  await group.commit(group.log.length - 1);
  assert.equal(supervisor.frames.end, 1);
  await group.commit();
  assert.equal(supervisor.frames.end, 2);
});

test("a frame for the guest goes to the primary, and its sender hears what became of it", async () => {
  const { vmm, supervisor } = await setUpLive();
  const data = Buffer.alloc(60);
  const sent = supervisor.sendFrame({ source: 9, seq: 1, data });
  assert.deepEqual(vmm.sent.at(-1), { kind: "frame", source: 9n, seq: 1n, data });
  vmm.handlers.onMessage({ kind: "frame_applied", source: 9, seq: 1, accepted: true });
  assert.equal(await sent, true);
  const lost = supervisor.sendFrame({ source: 9, seq: 2, data });
  await supervisor.close();
  assert.equal(await lost, false);
});

test("output of a live copy is shown when its chunk is committed, not before", async () => {
  const { vmm, group, supervisor, text } = await setUpLive();
  assert.equal(supervisor.state, "live");
  vmm.handlers.onChunk(fakeChunk(0));
  vmm.say(0, "one");
  vmm.handlers.onChunk(fakeChunk(1));
  vmm.say(3, "two");
  assert.equal(text(), "");
  await group.commit(group.log.length - 1);
  assert.equal(text(), "one");
  await group.commit();
  assert.equal(text(), "onetwo");
  assert.deepEqual(vmm.sent.at(-1), { kind: "committed", chunk: 1n });
});

test("a deposed primary is killed, its uncommitted output is never shown, a new copy follows", async () => {
  const { vmm, vmms, group, supervisor, text } = await setUpLive();
  vmm.handlers.onChunk(fakeChunk(0));
  vmm.say(0, "kept");
  await group.commit();
  vmm.handlers.onChunk(fakeChunk(1));
  vmm.say(4, "lost");
  group.log.pop();
  group.role("follower", { term: 3, leader: "b" });
  assert.ok(vmm.killed);
  assert.equal(group.redelivered, 1);
  vmm.say(4, "late");
  await group.deliverAgain();
  assert.deepEqual(vmms[1]?.chunks, [fakeChunk(0)]);
  vmms[1]?.say(0, "kept");
  assert.equal(text(), "kept");
  assert.equal(supervisor.state, "following");
});

test("leadership lost and won again unnoticed: what was recorded before is not proposed", async () => {
  const { vmm, group } = await setUpLive();
  const length = group.log.length;
  group.soft = { ...group.soft, term: 4 };
  vmm.handlers.onChunk(fakeChunk(0));
  assert.equal(group.log.length, length);
  assert.ok(vmm.killed);
});

test("a rebuilt copy under the same leadership waits for what the one before it proposed", async () => {
  const { vmm, vmms, group, supervisor } = await setUpLive();
  vmm.handlers.onChunk(fakeChunk(0));
  vmm.handlers.onExit("it crashed");
  assert.equal(supervisor.state, "failed");
  assert.deepEqual(group.transfers, ["b"]);
  while (vmms.length < 2) await turn();
  await group.deliverAgain();
  group.role("leader", { term: 2, ready: true });
  assert.equal(supervisor.state, "following");
  await group.commit();
  assert.equal(supervisor.state, "going_live");
  vmms[1]?.live(1);
  assert.equal(supervisor.state, "live");
});

test("a chunk that is out of order or malformed is left out and counted", async () => {
  const { vmms, group, supervisor } = setUp();
  for (const chunk of [fakeChunk(3), Buffer.from("junk"), fakeChunk(0)]) {
    const data = encodeEntry({ kind: "chunk", chunk });
    group.log.push({ index: group.log.length + 1, term: 1, kind: "data", data });
  }
  await group.commit();
  assert.deepEqual(vmms[0]?.chunks, [fakeChunk(0)]);
  assert.equal(supervisor.status().strangeEntries, 2);
});

test("input is acknowledged when committed, once, and refused elsewhere", async () => {
  const { vmm, group, supervisor } = await setUpLive();
  const signal = new AbortController().signal;
  const message = { source: 7, seq: 1, data: Buffer.from("x") };
  let done = false;
  const waiting = supervisor.input(message, { signal }).then(() => {
    done = true;
  });
  vmm.handlers.onChunk(fakeChunk(0));
  vmm.handlers.onMessage({ kind: "input_applied", source: 7, seq: 1 });
  await turn();
  assert.equal(done, false);
  await group.commit();
  await waiting;
  await supervisor.input(message, { signal });
  assert.equal(vmm.sent.filter((sent) => sent["kind"] === "input").length, 1);
  group.role("follower", { term: 3, leader: "b" });
  await assert.rejects(supervisor.input({ ...message, seq: 2 }, { signal }), NotPrimaryError);
});

test("the end of a live guest counts when its chunk is committed", async () => {
  const { vmm, group, supervisor } = await setUpLive();
  vmm.handlers.onChunk(fakeChunk(0));
  vmm.handlers.onMessage({ kind: "ended", reason: "poweroff" });
  assert.equal(supervisor.state, "live");
  await group.commit();
  assert.equal(supervisor.state, "ended");
  assert.equal(supervisor.hub.closed, true);
  assert.equal(supervisor.status().endReason, "poweroff");
});

test("a witness runs nothing, counts chunks and sees the removal", async () => {
  const { vmms, group, supervisor, removed } = setUp("w");
  await group.lead(2);
  const data = encodeEntry({ kind: "chunk", chunk: fakeChunk(0) });
  group.log.push({ index: 2, term: 2, kind: "data", data });
  await group.commit();
  assert.equal(vmms.length, 0);
  assert.equal(supervisor.state, "witness");
  assert.equal(supervisor.status().chunkCount, 1);
  assert.ok(supervisor.proposeRemoval());
  await group.commit();
  assert.equal(removed(), 1);
  assert.equal(supervisor.state, "removed");
});
