/** The core as its owner and its peers see it: conflicts, hostile messages, bad use. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeMembers } from "./membership.ts";
import { RaftCore } from "./raft_core.ts";
import {
  type Entry,
  type HardState,
  type LogReader,
  MESSAGE_KINDS,
  type Member,
  type Message,
} from "./types.ts";

const MEMBERS: readonly Member[] = ["a", "b", "c"].map((id) => ({ id, role: "replica" }));
class MemoryLog implements LogReader {
  readonly entries: Entry[];
  readonly firstIndex = 1;

  constructor(terms: readonly number[]) {
    this.entries = terms.map((term, i) => entryOf(i + 1, term));
  }

  get lastIndex(): number {
    return this.entries.length;
  }

  term(index: number): number {
    return index === 0 ? 0 : this.entries[index - 1]!.term;
  }

  slice(from: number, to: number): readonly Entry[] {
    return this.entries.slice(from - 1, to - 1);
  }

  get terms(): readonly number[] {
    return this.entries.map(({ term }) => term);
  }
}

interface Server {
  readonly core: RaftCore;
  readonly log: MemoryLog;
  applied: number;
}

function entryOf(index: number, term: number): Entry {
  return { index, term, kind: "data", data: Uint8Array.of(index, term) };
}

function serverOf(id: string, terms: readonly number[], hardState: HardState | null): Server {
  const log = new MemoryLog(terms);
  const prng = { next: () => 0 };
  return { core: new RaftCore({ id, members: MEMBERS, hardState, log, prng }), log, applied: 0 };
}

/** Does what the Readys say, at once; the messages that leave. */
function pump(server: Server): readonly Message[] {
  const { core, log } = server;
  const sent: Message[] = [];
  while (core.hasReady()) {
    const ready = core.ready();
    const [first] = ready.entries;
    if (first) log.entries.splice(first.index - 1, Infinity, ...ready.entries);
    sent.push(...ready.messagesNow, ...ready.messages);
    for (const { index } of ready.committed) {
      assert.equal(index, server.applied + 1);
      server.applied = index;
    }
    core.advance(ready.number, server.applied);
  }
  return sent;
}

function messageOf(fields: Partial<Message>): Message {
  return {
    kind: "append",
    from: "b",
    to: "a",
    term: 1,
    index: 0,
    logTerm: 0,
    commit: 0,
    entries: [],
    reject: false,
    transfer: false,
    ...fields,
  };
}

function termsFrom(terms: readonly number[]): fc.Arbitrary<readonly number[]> {
  const term = fc.constantFrom(...terms);
  return fc.array(term, { maxLength: 15 }).map((found) => found.sort((x, y) => x - y));
}

/** Two logs as Raft can make them: the same up to some place, and then never the same term. */
const twoLogs = fc
  .tuple(termsFrom([1, 2, 3]), termsFrom([5, 7, 9]), termsFrom([4, 6, 8]))
  .map(([shared, own, other]) => ({
    shared,
    leaderTerms: [...shared, ...own],
    followerTerms: [...shared, ...other],
  }));

test("any two logs become equal, in a few rounds and without touching what they share", () => {
  fc.assert(
    fc.property(twoLogs, ({ shared, leaderTerms, followerTerms }) => {
      const hardState = { term: 9, votedFor: null, commit: shared.length };
      const leader = serverOf("a", leaderTerms, hardState);
      const follower = serverOf("b", followerTerms, hardState);
      for (let i = 0; i < 10; i += 1) leader.core.tick();
      pump(leader);
      for (const [kind, term] of [
        ["prevote_reply", 10],
        ["vote_reply", 10],
      ] as const) {
        leader.core.step(messageOf({ kind, term, from: "c" }));
        pump(leader);
      }
      assert.equal(leader.core.soft.role, "leader");
      leader.core.reachable("b");
      let rounds = 0;
      let toFollower = replay(leader, 5);
      for (; toFollower.length > 0 && rounds < 100; rounds += 1) {
        for (const message of toFollower) follower.core.step(message);
        for (const message of pump(follower)) leader.core.step(message);
        toFollower = pump(leader).filter(({ to, kind }) => to === "b" && kind === "append");
      }
      assert.deepEqual(follower.log.entries, leader.log.entries);
      // Each rejection skips a whole term of one of the logs.
      assert.ok(rounds <= 8, `${rounds} rounds`);
    }),
    { numRuns: 300 },
  );
});

/** Ticks until the leader asks b again; those appends. */
function replay(leader: Server, ticks: number): readonly Message[] {
  const found: Message[] = [];
  for (let i = 0; i < ticks; i += 1) {
    leader.core.tick();
    found.push(...pump(leader).filter(({ to, kind }) => to === "b" && kind === "append"));
  }
  return found;
}

const hostileEntry = fc.record({
  index: fc.oneof(fc.integer({ min: -1, max: 12 }), fc.constant(2 ** 60), fc.double()),
  term: fc.integer({ min: 0, max: 9 }),
  kind: fc.constantFrom("data", "noop", "config", "nonsense"),
  data: fc.oneof(
    fc.uint8Array({ maxLength: 20 }),
    fc.constant(encodeMembers([{ id: "z", role: "replica" }])),
    fc.constant("text"),
  ),
});

const hostileMessage = fc.record({
  kind: fc.oneof(fc.constantFrom(...MESSAGE_KINDS), fc.constant("nonsense")),
  from: fc.oneof(fc.constantFrom("b", "c", "z"), fc.constant(7)),
  to: fc.oneof({ weight: 9, arbitrary: fc.constant("a") }, { weight: 1, arbitrary: fc.string() }),
  term: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom(2 ** 53, -1, Number.NaN, "5")),
  index: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.constantFrom(2 ** 52, 2 ** 53, 0.5)),
  logTerm: fc.integer({ min: 0, max: 9 }),
  commit: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.constant(2 ** 50)),
  entries: fc.oneof(fc.array(hostileEntry, { maxLength: 4 }), fc.constant(null)),
  reject: fc.boolean(),
  transfer: fc.boolean(),
});

const hostileStep = fc.oneof(
  { weight: 8, arbitrary: hostileMessage },
  { weight: 1, arbitrary: fc.constant("tick" as const) },
  { weight: 1, arbitrary: fc.constant("propose" as const) },
);

test("no message makes the core throw, or lose what is committed", () => {
  fc.assert(
    fc.property(fc.array(hostileStep, { maxLength: 60 }), (steps) => {
      const server = serverOf("a", [1, 1, 2], { term: 2, votedFor: null, commit: 2 });
      pump(server);
      let { term, commit } = server.core.soft;
      let committed = server.log.terms.slice(0, commit);
      for (const action of steps) {
        if (action === "tick") server.core.tick();
        else if (action === "propose") server.core.propose(Uint8Array.of(1));
        else server.core.step(action as unknown as Message);
        pump(server);
        const { soft } = server.core;
        assert.ok(soft.term >= term && soft.term <= 2 ** 48, `term ${soft.term}`);
        assert.ok(soft.commit >= commit && soft.commit <= soft.lastIndex);
        assert.deepEqual(server.log.terms.slice(0, commit), committed);
        ({ term, commit } = soft);
        committed = server.log.terms.slice(0, commit);
      }
    }),
    { numRuns: 2_000 },
  );
});

test("a group of one commits what its own disk has, and not before", () => {
  const log = new MemoryLog([]);
  const members: readonly Member[] = [{ id: "a", role: "replica" }];
  const core = new RaftCore({ id: "a", members, hardState: null, log, prng: { next: () => 0 } });
  for (let i = 0; i < 10; i += 1) core.tick();
  const vote = core.ready();
  assert.equal(vote.soft.role, "candidate");
  core.advance(vote.number, 0);
  const noop = core.ready();
  assert.equal(noop.soft.role, "leader");
  core.propose(Uint8Array.of(1));
  const data = core.ready();
  assert.equal(data.entries.length, 1);
  assert.equal(data.committed.length, 0);
  core.advance(data.number, 0);
  assert.deepEqual(
    core.ready().committed.map(({ index }) => index),
    [1, 2],
  );
});

test("committed entries are handed out within the limit, and more as they are applied", () => {
  const terms = Array.from({ length: 50 }, () => 1);
  const log = new MemoryLog(terms);
  const bounded: LogReader = {
    firstIndex: 1,
    lastIndex: 50,
    term: (index) => log.term(index),
    slice: (from, to, bytesMax) => log.slice(from, Math.min(to, from + 1 + bytesMax / 40)),
  };
  const core = new RaftCore({
    id: "a",
    members: MEMBERS,
    hardState: { term: 1, votedFor: null, commit: 50 },
    log: bounded,
    prng: { next: () => 0 },
    limits: { applyBytesMax: 200 },
  });
  let applied = 0;
  while (core.hasReady()) {
    const { number, committed } = core.ready();
    assert.ok(committed.length > 0 && committed.length <= 7);
    assert.equal(core.hasReady(), false);
    applied = committed.at(-1)!.index;
    core.advance(number, applied);
  }
  assert.equal(applied, 50);
});

test("an owner's mistakes are told by an error that says what was wrong", () => {
  const server = serverOf("a", [], null);
  assert.throws(() => server.core.advance(1, 0), /only given out to Ready 0/);
  assert.throws(() => server.core.propose(new Uint8Array(300_000)), /limit is 262144/);
  assert.throws(() => server.core.proposeConfig([]), /no member is a replica/);
  assert.throws(() => server.core.proposeConfig(MEMBERS.slice(0, 1)), /"2" changes at once/);
  assert.throws(
    () => serverOf("a", [3], { term: 1, votedFor: null, commit: 0 }),
    /ends with term 3/,
  );
});

test("too much uncommitted: propose says no until some of it commits", () => {
  const server = serverOf("a", [], null);
  for (let i = 0; i < 10; i += 1) server.core.tick();
  pump(server);
  server.core.step(messageOf({ kind: "prevote_reply", term: 1 }));
  pump(server);
  server.core.step(messageOf({ kind: "vote_reply", term: 1 }));
  pump(server);
  let count = 0;
  while (server.core.propose(new Uint8Array(250_000)) !== null) count += 1;
  assert.ok(count > 60 && count < 70, `${count} entries`);
  pump(server);
  server.core.step(messageOf({ kind: "append_reply", term: 1, index: 10 }));
  assert.notEqual(server.core.propose(new Uint8Array(250_000)), null);
});
