/** Entries and members as they cross to the storage worker and come back. */

import type { Entry, EntryKind, Member } from "../raft/types.ts";
import { ENTRY_KINDS, type PackedEntries, type WriteOperation } from "./types.ts";

export interface PackedWrite {
  /** Null: not of a group. */
  readonly slot: { readonly log: { readonly lastIndex: number } | null } | null;
  readonly operations: readonly WriteOperation[];
  readonly entries: readonly Entry[];
  readonly bytes: number;
}

export function unpackEntries(packed: PackedEntries): Entry[] {
  let offset = 0;
  return packed.terms.map((term, n) => {
    const end = offset + packed.lengths[n]!;
    const data = packed.data.subarray(offset, end);
    offset = end;
    const kind: EntryKind = ENTRY_KINDS[packed.kinds[n]!] ?? "noop";
    return { index: packed.from + n, term, kind, data };
  });
}

export function membersText(members: readonly Member[]): string {
  return JSON.stringify(members.map(({ id, role }) => ({ id, role })));
}

/** One transaction out of writes in their order, with all entries' bytes in one buffer. */
export function packWrites(batch: readonly PackedWrite[]): {
  operations: WriteOperation[];
  data: Uint8Array;
} {
  // Not zeroed, and not from a pool: it is filled below and then given to the worker.
  const bytes = batch.reduce((sum, write) => sum + write.bytes, 0);
  const data = Buffer.allocUnsafeSlow(bytes);
  const operations: WriteOperation[] = [];
  const lastOf = new Map<object, number>();
  let offset = 0;
  for (const { slot, operations: parts, entries } of batch) {
    for (const part of parts) {
      if (part.kind !== "append" || slot === null) {
        operations.push(part);
        continue;
      }
      const last = lastOf.get(slot) ?? slot.log?.lastIndex ?? 0;
      operations.push({ ...part, offset, truncate: part.from <= last });
      lastOf.set(slot, part.from + part.terms.length - 1);
    }
    for (const entry of entries) {
      data.set(entry.data, offset);
      offset += entry.data.length;
    }
  }
  return { operations, data };
}
