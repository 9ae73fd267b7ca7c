/**
 * Raft messages on the wire: they come back as they were, and random bytes are refused or parsed.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { EntryKind, MessageKind } from "../raft/types.ts";
import { decodeRecords, encodeRecords, type GroupRecord, recordBytes } from "./message_codec.ts";

const ENDS = { from: "a", to: "b" };
const KINDS: MessageKind[] = ["prevote", "vote_reply", "append", "heartbeat", "timeout_now"];
const ENTRY_KINDS: EntryKind[] = ["data", "config", "noop"];

const number = fc.nat(2 ** 31 - 1).map((value) => value * 2 ** 16 + 3);
const groupId = fc.stringMatching(/^[A-Za-z0-9._:-]{1,128}$/);
const entry = fc.record({
  term: number,
  kind: fc.constantFrom(...ENTRY_KINDS),
  data: fc.uint8Array({ maxLength: 100 }),
});

const messageRecord = fc
  .record({
    groupId,
    kind: fc.constantFrom(...KINDS),
    term: number,
    index: number,
    logTerm: number,
    commit: number,
    entries: fc.array(entry, { maxLength: 5 }),
    reject: fc.boolean(),
    transfer: fc.boolean(),
  })
  .map(({ groupId: id, entries, ...rest }): GroupRecord => {
    const numbered = entries.map((item, n) => ({ ...item, index: rest.index + 1 + n }));
    return { groupId: id, message: { ...rest, ...ENDS, entries: numbered } };
  });
const goneRecord = groupId.map((id): GroupRecord => ({ groupId: id, gone: true }));

function plain(records: readonly GroupRecord[]): unknown {
  return JSON.parse(
    JSON.stringify(records, (_key, value) => (value instanceof Uint8Array ? [...value] : value)),
  );
}

test("records come back as they were", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(messageRecord, goneRecord), { maxLength: 8 }), (records) => {
      const bytes = encodeRecords(records);
      assert.equal(
        bytes.length,
        records.reduce((sum, record) => sum + recordBytes(record), 0),
      );
      assert.deepEqual(plain(decodeRecords(Uint8Array.from(bytes), ENDS)), plain(records));
    }),
  );
});

test("a frame that is cut or random is refused, never misread beyond its end", () => {
  fc.assert(
    fc.property(messageRecord, fc.nat(), (record, at) => {
      const bytes = encodeRecords([record]);
      const cut = bytes.subarray(0, 1 + (at % (bytes.length - 1)));
      assert.throws(() => decodeRecords(cut, ENDS));
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        decodeRecords(bytes, ENDS);
      } catch (error) {
        assert.equal((error as Error).name, "MessageFormatError");
      }
    }),
  );
});
