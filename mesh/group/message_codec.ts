/**
 * Raft messages of all groups as bytes. A frame is a row of records; sender and receiver are not in
 * it, they are the two ends of the link. Decoding trusts nothing: what does not fit is refused
 * whole.
 */

import { groupLimits } from "../limits.ts";
import {
  type Entry,
  type EntryKind,
  MESSAGE_KINDS,
  type Message,
  type NodeId,
} from "../raft/types.ts";

/** Not of Raft: the sender has destroyed this group. */
const GONE = 255;

const ENTRY_KINDS = ["data", "config", "noop"] as const satisfies readonly EntryKind[];

const FLAG_REJECT = 1;
const FLAG_TRANSFER = 2;
const U48_BYTES = 6;
const RECORD_HEAD_BYTES = 3;
const MESSAGE_HEAD_BYTES = 4 * U48_BYTES + 4;
const ENTRY_HEAD_BYTES = U48_BYTES + 1 + 4;
const GROUP_ID = /^[A-Za-z0-9._:-]+$/;

export type GroupRecord =
  | { readonly groupId: string; readonly message: Message }
  | { readonly groupId: string; readonly gone: true };

export class MessageFormatError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "MessageFormatError";
  }
}

export function isGroupId(text: string): boolean {
  return text.length <= groupLimits.groupIdCharsMax && GROUP_ID.test(text);
}

export function recordBytes(record: GroupRecord): number {
  const head = RECORD_HEAD_BYTES + record.groupId.length;
  if ("gone" in record) return head;
  let bytes = head + MESSAGE_HEAD_BYTES;
  for (const entry of record.message.entries) bytes += ENTRY_HEAD_BYTES + entry.data.length;
  return bytes;
}

export function encodeRecords(records: readonly GroupRecord[]): Uint8Array {
  let bytes = 0;
  for (const record of records) bytes += recordBytes(record);
  const out = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (const record of records) at = encodeRecord(record, out, at);
  return out;
}

function encodeRecord(record: GroupRecord, out: Buffer, start: number): number {
  const message = "gone" in record ? null : record.message;
  let at = out.writeUInt8(message === null ? GONE : MESSAGE_KINDS.indexOf(message.kind), start);
  const flags = (message?.reject ? FLAG_REJECT : 0) | (message?.transfer ? FLAG_TRANSFER : 0);
  at = out.writeUInt8(flags, at);
  at = out.writeUInt8(record.groupId.length, at);
  at += out.write(record.groupId, at, "latin1");
  if (message === null) return at;
  for (const value of [message.term, message.index, message.logTerm, message.commit]) {
    at = out.writeUIntLE(value, at, U48_BYTES);
  }
  at = out.writeUInt32LE(message.entries.length, at);
  for (const entry of message.entries) {
    at = out.writeUIntLE(entry.term, at, U48_BYTES);
    at = out.writeUInt8(ENTRY_KINDS.indexOf(entry.kind), at);
    at = out.writeUInt32LE(entry.data.length, at);
    out.set(entry.data, at);
    at += entry.data.length;
  }
  return at;
}

/** All records of a frame from `from` to `to`; entries share the frame's memory. */
export function decodeRecords(
  payload: Uint8Array,
  ends: { from: NodeId; to: NodeId },
): GroupRecord[] {
  const reader = new RecordReader(payload, ends);
  const records: GroupRecord[] = [];
  while (!reader.isAtEnd) records.push(reader.record());
  return records;
}

class RecordReader {
  readonly #bytes: Buffer;
  /** The same memory; parts of a Buffer would be Buffers, whose `slice` does not copy. */
  readonly #payload: Uint8Array;
  readonly #ends: { from: NodeId; to: NodeId };
  #at = 0;

  constructor(payload: Uint8Array, ends: { from: NodeId; to: NodeId }) {
    this.#payload = payload;
    this.#bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
    this.#ends = ends;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  #take(bytes: number): number {
    const start = this.#at;
    if (start + bytes > this.#bytes.length) throw new MessageFormatError("a record is cut off");
    this.#at = start + bytes;
    return start;
  }

  #u8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }

  #u32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }

  #u48(): number {
    return this.#bytes.readUIntLE(this.#take(U48_BYTES), U48_BYTES);
  }

  record(): GroupRecord {
    const kindNumber = this.#u8();
    const flags = this.#u8();
    const idBytes = this.#u8();
    const idStart = this.#take(idBytes);
    const groupId = this.#bytes.toString("latin1", idStart, idStart + idBytes);
    if (!isGroupId(groupId)) throw new MessageFormatError("a malformed group id");
    if (kindNumber === GONE) return { groupId, gone: true };
    const kind = MESSAGE_KINDS[kindNumber];
    if (kind === undefined) throw new MessageFormatError(`message kind ${kindNumber}`);
    const term = this.#u48();
    const index = this.#u48();
    const logTerm = this.#u48();
    const commit = this.#u48();
    const entries = this.#entries(index + 1);
    const message: Message = {
      kind,
      ...this.#ends,
      term,
      index,
      logTerm,
      commit,
      entries,
      reject: (flags & FLAG_REJECT) !== 0,
      transfer: (flags & FLAG_TRANSFER) !== 0,
    };
    return { groupId, message };
  }

  #entries(first: number): Entry[] {
    const count = this.#u32();
    if (count * ENTRY_HEAD_BYTES > this.#bytes.length - this.#at) {
      throw new MessageFormatError(`${count} entries in a short frame`);
    }
    const entries: Entry[] = [];
    for (let n = 0; n < count; n += 1) {
      const term = this.#u48();
      const kind = ENTRY_KINDS[this.#u8()];
      if (kind === undefined) throw new MessageFormatError("an unknown kind of entry");
      const bytes = this.#u32();
      const start = this.#take(bytes);
      entries.push({ index: first + n, term, kind, data: this.#payload.subarray(start, this.#at) });
    }
    return entries;
  }
}
