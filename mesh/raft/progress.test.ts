/** Flow control: what a leader has under way to one follower stays within its window. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ByteWindow } from "./_byte_window.ts";
import { Progress } from "./_progress.ts";
import { DEFAULT_LIMITS } from "./limits.ts";

const limits = { ...DEFAULT_LIMITS, appendBytesMax: 100, inflightBytesMax: 400 };

test("the bytes under way are those sent and not released", () => {
  const step = fc.record({ bytes: fc.nat(100), released: fc.nat(5) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const window = new ByteWindow();
      const spans: { index: number; bytes: number }[] = [];
      let released = 0;
      steps.forEach(({ bytes, released: count }, i) => {
        window.add(i + 1, bytes);
        spans.push({ index: i + 1, bytes });
        released = Math.min(i + 1, released + count);
        window.releaseTo(released);
        const left = spans.filter(({ index }) => index > released);
        assert.equal(window.count, left.length);
        assert.equal(
          window.bytes,
          left.reduce((sum, span) => sum + span.bytes, 0),
        );
      });
    }),
  );
});

test("a follower gets no more than its window, and all of it again as it answers", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("send" as const), bytes: fc.integer({ min: 1, max: 100 }) }),
    fc.record({
      kind: fc.constant("answer" as const),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
    fc.record({ kind: fc.constant("tick" as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const progress = new Progress("b", "replica", 1);
      progress.acknowledged(0);
      for (const action of steps) {
        if (action.kind === "send") {
          const room = progress.room(limits);
          assert.ok(room <= limits.appendBytesMax);
          if (progress.state === "replicate" && action.bytes <= room) {
            progress.sentEntries(progress.next, action.bytes);
          }
        } else if (action.kind === "answer") {
          const ahead = progress.next - 1 - progress.match;
          progress.acknowledged(progress.match + Math.floor(action.share * ahead));
        } else progress.tick(limits);
        assert.ok(progress.inflightBytes <= limits.inflightBytesMax);
        assert.ok(progress.next > progress.match);
      }
      progress.acknowledged(progress.next - 1);
      assert.equal(progress.inflightBytes, 0);
      assert.equal(progress.room(limits), limits.appendBytesMax);
    }),
  );
});

test("a probe is one append, repeated after a while", () => {
  const progress = new Progress("b", "replica", 8);
  assert.ok(progress.room(limits) > 0);
  progress.sentProbe();
  assert.equal(progress.room(limits), 0);
  for (let i = 1; i < limits.probeTicks; i += 1) assert.equal(progress.tick(limits), false);
  assert.equal(progress.tick(limits), true);
  assert.ok(progress.room(limits) > 0);
});

test("pipelined appends without an answer are taken for lost", () => {
  const progress = new Progress("b", "replica", 1);
  progress.acknowledged(5);
  progress.sentEntries(7, 50);
  for (let i = 1; i < limits.resendTicks; i += 1) assert.equal(progress.tick(limits), false);
  assert.equal(progress.tick(limits), true);
  assert.equal(progress.state, "probe");
  assert.equal(progress.next, 6);
});

test("nothing is sent to a follower without a connection", () => {
  const progress = new Progress("b", "replica", 1);
  progress.acknowledged(5);
  progress.isUnreachable = true;
  assert.equal(progress.room(limits), 0);
});
