/**
 * The log against a plain array: the same answers after any course of appends, truncations, writes.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RaftLog } from "./_raft_log.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import { SAFETY_RULES } from "./safety_rules.ts";
import type { Entry, LogReader } from "./types.ts";

/** What storage holds: written late, in order, and read by the log. */
class Stored implements LogReader {
  readonly entries: Entry[] = [];
  readonly firstIndex = 1;

  get lastIndex(): number {
    return this.entries.length;
  }

  term(index: number): number {
    return index === 0 ? 0 : this.entries[index - 1]!.term;
  }

  slice(from: number, to: number, bytesMax: number): readonly Entry[] {
    const found: Entry[] = [];
    let bytes = 0;
    for (const entry of this.entries.slice(from - 1, to - 1)) {
      bytes += entry.data.length;
      if (found.length > 0 && bytes > bytesMax) break;
      found.push(entry);
    }
    return found;
  }

  write(entries: readonly Entry[]): void {
    this.entries.splice(entries[0]!.index - 1, Infinity, ...entries);
  }
}

const step = fc.oneof(
  fc.record({ kind: fc.constant("append" as const), bytes: fc.nat(60), newTerm: fc.boolean() }),
  fc.record({
    kind: fc.constant("truncate" as const),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  }),
  fc.record({ kind: fc.constant("write" as const) }),
  fc.record({ kind: fc.constant("finish" as const) }),
  fc.record({
    kind: fc.constant("commit" as const),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  }),
);

test("the log answers as an array would, whatever is in memory, on its way or stored", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const stored = new Stored();
      const limits = { ...DEFAULT_LIMITS, tailBytesMax: 100 };
      const log = new RaftLog(stored, 0, { limits, rules: SAFETY_RULES });
      const model: Entry[] = [];
      const writes: { number: number; entries: readonly Entry[]; term: number }[] = [];
      let term = 1;
      let number = 0;
      for (const action of steps) {
        if (action.kind === "append") {
          if (action.newTerm) term += 1;
          const data = new Uint8Array(action.bytes);
          const entry: Entry = { index: model.length + 1, term, kind: "data", data };
          model.push(entry);
          log.append(entry);
        } else if (action.kind === "truncate") {
          const index = log.commit + 1 + Math.floor(action.share * (model.length - log.commit));
          if (index > model.length) continue;
          model.length = index - 1;
          log.truncate(index);
          term += 1;
        } else if (action.kind === "write") {
          number += 1;
          const entries = log.takeUnstored(number);
          if (entries.length > 0) writes.push({ number, entries, term });
        } else if (action.kind === "finish") {
          const write = writes.shift();
          if (!write) continue;
          stored.write(write.entries);
          log.writtenThrough(write.number);
        } else {
          log.commitTo(log.commit + Math.floor(action.share * (model.length - log.commit)));
        }
        checkSame(log, model, stored);
      }
    }),
    { numRuns: 300 },
  );
});

function checkSame(log: RaftLog, model: readonly Entry[], stored: Stored): void {
  assert.equal(log.lastIndex, model.length);
  assert.equal(log.lastTerm, model.at(-1)?.term ?? 0);
  for (const { index, term } of model) assert.equal(log.term(index), term);
  assert.equal(log.term(model.length + 1), undefined);
  let next = 1;
  while (next <= model.length) {
    const entries = log.slice(next, model.length + 1, 90);
    assert.deepEqual(entries, model.slice(next - 1, next - 1 + entries.length));
    next += entries.length;
  }
  // What is said to be durable is durable in the version that the log has now.
  for (let index = 1; index <= log.persistedIndex; index += 1) {
    assert.equal(stored.entries[index - 1], model[index - 1]);
  }
  const waiting = model.slice(log.persistedIndex);
  const bytes = waiting.reduce((sum, entry) => sum + entry.data.length + 32, 0);
  assert.equal(log.unpersistedBytes, bytes);
}

test("a committed entry can't be removed", () => {
  const log = new RaftLog(new Stored(), 0, { limits: DEFAULT_LIMITS, rules: SAFETY_RULES });
  log.append({ index: 1, term: 1, kind: "noop", data: new Uint8Array(0) });
  log.commitTo(1);
  assert.throws(() => log.truncate(1), /entries to 1 are committed/);
});
