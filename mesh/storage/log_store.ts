/**
 * The node's durable log of all groups. Group commit: while one transaction is on its way to the
 * disk the next batch collects. A promise of `append` resolves only after the disk has it. A group
 * whose batch failed takes no further writes until it is loaded again; a store whose disk or worker
 * failed takes none at all: there is no way to go on that could not forget something acknowledged.
 */

import type { Clock, Timer } from "../clock.ts";
import { storageLimits } from "../limits.ts";
import type { Entry, EntryKind, HardState, Member } from "../raft/types.ts";
import { StorageError, type WorkerClient } from "./_worker_client.ts";
import { GroupLog } from "./group_log.ts";
import { ENTRY_KINDS, type GroupRow, type PackedEntries, type WriteOperation } from "./types.ts";

export interface StoredGroup {
  readonly id: string;
  readonly members: readonly Member[];
  readonly info: Uint8Array;
  readonly destroyed: boolean;
}

export interface LoadedGroup {
  readonly id: string;
  readonly members: readonly Member[];
  readonly info: Uint8Array;
  readonly hardState: HardState;
  readonly log: GroupLog;
}

export interface LoadHooks {
  readonly onLoaded?: () => void;
  readonly onError?: (error: Error) => void;
}

interface GroupSlot {
  readonly group: number;
  readonly id: string;
  members: readonly Member[];
  info: Uint8Array;
  destroyed: boolean;
  log: GroupLog | null;
  failed: Error | null;
  hardState: HardState;
  commitDirty: boolean;
  lastAppendMs: number;
}

interface PendingWrite {
  readonly slot: GroupSlot | null;
  readonly operations: WriteOperation[];
  readonly entries: readonly Entry[];
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface LogStoreInit {
  readonly writer: WorkerClient;
  readonly reader: WorkerClient;
  readonly clock: Clock;
  readonly groups: readonly GroupRow[];
}

function unpack(packed: PackedEntries): Entry[] {
  let offset = 0;
  return packed.terms.map((term, n) => {
    const end = offset + packed.lengths[n]!;
    const data = packed.data.subarray(offset, end);
    offset = end;
    const kind: EntryKind = ENTRY_KINDS[packed.kinds[n]!] ?? "noop";
    return { index: packed.from + n, term, kind, data };
  });
}

const NO_STATE: HardState = { term: 0, votedFor: null, commit: 0 };

export class LogStore {
  readonly #init: LogStoreInit;
  readonly #slots = new Map<string, GroupSlot>();
  #queue: PendingWrite[] = [];
  #writing: Promise<void> | null = null;
  #failed: StorageError | null = null;
  readonly #failure = Promise.withResolvers<StorageError>();
  #closed = false;
  #sinceCheckpointBytes = 0;
  #checkpointing: Promise<void> | null = null;
  readonly #sweeping = new Set<GroupSlot>();
  #sweeper: Promise<void> | null = null;
  readonly #maintenance: Timer;

  constructor(init: LogStoreInit) {
    this.#init = init;
    for (const row of init.groups) {
      const slot = this.#slotOf(row);
      this.#slots.set(row.id, slot);
      if (row.destroyed) this.#sweeping.add(slot);
    }
    this.#maintenance = init.clock.every(storageLimits.commitFlushMs, () => this.#maintain());
  }

  #slotOf(row: GroupRow): GroupSlot {
    return {
      group: row.group,
      id: row.id,
      members: JSON.parse(row.members) as Member[],
      info: row.info,
      destroyed: row.destroyed,
      log: null,
      failed: null,
      hardState: NO_STATE,
      commitDirty: false,
      lastAppendMs: 0,
    };
  }

  /** Resolves if the whole store fails; the process should then end. */
  get failure(): Promise<StorageError> {
    return this.#failure.promise;
  }

  /** All groups of this node, tombstones included. */
  groups(): StoredGroup[] {
    return [...this.#slots.values()].map(({ id, members, info, destroyed }) => ({
      id,
      members,
      info,
      destroyed,
    }));
  }

  find(id: string): StoredGroup | undefined {
    return this.#slots.get(id);
  }

  /** Makes a group; durable when resolved. */
  async create(id: string, members: readonly Member[], info: Uint8Array): Promise<void> {
    this.#check(null);
    if (this.#slots.size >= storageLimits.groupsMax) {
      throw new RangeError(`Cannot create group "${id}": this node holds too many groups`);
    }
    if (this.#slots.has(id)) throw new TypeError(`Cannot create group "${id}": it exists already`);
    const plain = members.map(({ id: member, role }) => ({ id: member, role }));
    const text = JSON.stringify(plain);
    const placeholder = this.#slotOf({ group: -1, id, members: text, info, destroyed: false });
    placeholder.failed = new Error(`Cannot use group "${id}": it is still being created`);
    this.#slots.set(id, placeholder);
    try {
      const group = await this.#init.writer.call("create", { id, members: text, info });
      this.#slots.set(id, this.#slotOf({ group, id, members: text, info, destroyed: false }));
    } catch (error) {
      this.#slots.delete(id);
      throw this.#noteFailure(error);
    }
  }

  /** Reads a group's durable state and makes its log available. Also after a failed write. */
  async load(id: string, hooks: LoadHooks = {}): Promise<LoadedGroup> {
    const slot = this.#slots.get(id);
    if (slot === undefined || slot.destroyed || slot.group < 0) {
      throw new TypeError(`Cannot load group "${id}": this node does not hold it`);
    }
    // What is still queued belongs to an earlier use of the group and must not follow the load.
    await this.flush();
    const state = await this.#init.reader.call("load", { group: slot.group });
    const { term, votedFor, commit } = state;
    slot.hardState = { term, votedFor, commit };
    slot.failed = null;
    slot.commitDirty = false;
    const log = new GroupLog({
      firstIndex: state.firstIndex,
      lastIndex: state.lastIndex,
      runs: state.runs,
      configs: state.configs.map((config) => ({ ...config, kind: "config" })),
      read: async (from, to, bytesMax) => {
        const request = { group: slot.group, from, to, bytesMax };
        return unpack(await this.#init.reader.call("read", request));
      },
      ...hooks,
    });
    slot.log = log;
    const { members, info } = slot;
    return { id, members, info, hardState: slot.hardState, log };
  }

  /**
   * Stores entries (dropping what was stored from entries[0].index on) and hard state in one
   * transaction, after all earlier ones of this group. The group's log shows them when it resolves.
   */
  append(
    id: string,
    update: { hardState: HardState | null; entries: readonly Entry[] },
  ): Promise<void> {
    const slot = this.#slots.get(id);
    if (slot === undefined || slot.log === null) {
      return Promise.reject(new TypeError(`Cannot append to group "${id}": it is not loaded`));
    }
    const error = this.#refusal(slot);
    if (error !== null) return Promise.reject(error);
    const { hardState, entries } = update;
    if (hardState !== null) slot.hardState = hardState;
    const operations: WriteOperation[] = [];
    if (entries.length > 0) {
      slot.lastAppendMs = this.#init.clock.now();
      operations.push(this.#appendOperation(slot, entries));
    }
    if (hardState !== null || slot.commitDirty) operations.push(this.#stateOperation(slot));
    return this.#enqueue(slot, operations, entries);
  }

  /** Only the commit index moved: written with the group's next batch, or within a second. */
  noteCommit(id: string, commit: number): void {
    const slot = this.#slots.get(id);
    if (slot === undefined || commit <= slot.hardState.commit) return;
    slot.hardState = { ...slot.hardState, commit };
    slot.commitDirty = true;
  }

  #appendOperation(slot: GroupSlot, entries: readonly Entry[]): WriteOperation {
    return {
      kind: "append",
      group: slot.group,
      from: entries[0]!.index,
      // Decided when the batch is made: earlier writes of the queue count as stored.
      truncate: false,
      terms: entries.map((entry) => entry.term),
      kinds: entries.map((entry) => ENTRY_KINDS.indexOf(entry.kind)),
      lengths: entries.map((entry) => entry.data.length),
      offset: 0,
    };
  }

  #stateOperation(slot: GroupSlot): WriteOperation {
    slot.commitDirty = false;
    return { kind: "hard_state", group: slot.group, ...slot.hardState };
  }

  putMeta(key: string, value: Uint8Array | null): Promise<void> {
    const error = this.#refusal(null);
    if (error !== null) return Promise.reject(error);
    return this.#enqueue(null, [{ kind: "meta", key, value }], []);
  }

  /** Why a write that was taken cannot be carried out any more. */
  #fault(slot: GroupSlot | null): Error | null {
    if (this.#failed !== null) return this.#failed;
    if (slot?.destroyed) return new TypeError(`Cannot write group "${slot.id}": it was destroyed`);
    return slot?.failed ?? null;
  }

  /** Why no further write is taken. */
  #refusal(slot: GroupSlot | null): Error | null {
    if (this.#closed) return new StorageError("Cannot write: the storage was closed", "closed");
    return this.#fault(slot);
  }

  #check(slot: GroupSlot | null): void {
    const error = this.#refusal(slot);
    if (error !== null) throw error;
  }

  #enqueue(
    slot: GroupSlot | null,
    operations: WriteOperation[],
    entries: readonly Entry[],
  ): Promise<void> {
    let bytes = 0;
    for (const entry of entries) bytes += entry.data.length;
    return new Promise((resolve, reject) => {
      this.#queue.push({ slot, operations, entries, bytes, resolve, reject });
      // Not at once: what the same turn of the event loop brings belongs into the same transaction.
      if (this.#writing === null) this.#writing = this.#drain();
    });
  }

  async #drain(): Promise<void> {
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#writeBatch(this.#takeBatch());
    this.#writing = null;
  }

  #takeBatch(): PendingWrite[] {
    let bytes = 0;
    let count = 0;
    for (const write of this.#queue) {
      if (count > 0 && bytes + write.bytes > storageLimits.batchBytesMax) break;
      bytes += write.bytes;
      count += 1;
    }
    return this.#queue.splice(0, count);
  }

  async #writeBatch(batch: PendingWrite[]): Promise<void> {
    const live = batch.filter((write) => {
      const error = this.#fault(write.slot);
      if (error !== null) write.reject(error);
      return error === null;
    });
    if (live.length === 0) return;
    const { operations, data } = this.#pack(live);
    try {
      await this.#init.writer.call("write", { operations, data }, [data.buffer as ArrayBuffer]);
    } catch (error) {
      const failure = this.#noteFailure(error);
      for (const write of live) {
        if (write.slot !== null) write.slot.failed = failure;
      }
      for (const write of live) write.reject(failure);
      return;
    }
    for (const write of live) {
      if (write.entries.length > 0) write.slot?.log?.appended(write.entries);
    }
    for (const write of live) write.resolve();
    this.#sinceCheckpointBytes += data.byteLength + 4096 * operations.length;
    this.#maybeCheckpoint();
  }

  #pack(batch: readonly PendingWrite[]): { operations: WriteOperation[]; data: Uint8Array } {
    // Not zeroed, and not from a pool: it is filled below and then given to the worker.
    const bytes = batch.reduce((sum, write) => sum + write.bytes, 0);
    const data = Buffer.allocUnsafeSlow(bytes);
    const operations: WriteOperation[] = [];
    const lastOf = new Map<GroupSlot, number>();
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

  /** A full disk fails the batch alone; anything else ends the store. */
  #noteFailure(error: unknown): StorageError {
    const failure =
      error instanceof StorageError ? error : new StorageError(String(error), "other");
    if (failure.fault !== "full" && this.#failed === null) {
      this.#failed = failure;
      this.#failure.resolve(failure);
    }
    return failure;
  }

  /** Resolves when everything appended so far is durable or has failed. */
  async flush(): Promise<void> {
    while (this.#writing !== null) await this.#writing;
  }

  #maybeCheckpoint(): void {
    if (this.#checkpointing !== null || this.#closed) return;
    if (this.#sinceCheckpointBytes < storageLimits.checkpointAfterBytes) return;
    this.#sinceCheckpointBytes = 0;
    this.#checkpointing = this.#checkpoint().finally(() => {
      this.#checkpointing = null;
    });
  }

  async #checkpoint(): Promise<void> {
    try {
      const { frames, copied } = await this.#init.reader.call("checkpoint", null);
      if (frames === copied || frames * 4096 < storageLimits.walBytesMax) return;
      // Under steady load the reader's copy never reaches the end. The writer copies the rest
      // between two transactions, after which the write-ahead log begins anew.
      await this.#init.writer.call("checkpoint", null);
    } catch (error) {
      this.#noteFailure(error);
    }
  }

  #maintain(): void {
    if (this.#closed || this.#failed !== null) return;
    const idleBefore = this.#init.clock.now() - storageLimits.tailIdleMs;
    for (const slot of this.#slots.values()) {
      if (slot.commitDirty && slot.failed === null && !slot.destroyed) {
        this.#enqueue(slot, [this.#stateOperation(slot)], []).catch(() => {});
      }
      if (slot.log !== null && slot.lastAppendMs < idleBefore) {
        slot.log.trim(storageLimits.idleTailBytesMax);
        slot.log.dropCold();
      }
    }
    if (this.#sweeping.size > 0 && this.#sweeper === null) {
      this.#sweeper = this.#sweep().finally(() => {
        this.#sweeper = null;
      });
    }
  }

  /** Leaves a tombstone at once; the entries go in small steps between other writes. */
  async destroy(id: string): Promise<void> {
    const slot = this.#slots.get(id);
    if (slot === undefined || slot.destroyed || slot.group < 0) return;
    this.#check(null);
    await this.flush();
    slot.destroyed = true;
    slot.log = null;
    try {
      await this.#init.writer.call("destroy", { group: slot.group });
    } catch (error) {
      slot.destroyed = false;
      throw this.#noteFailure(error);
    }
    slot.members = [];
    slot.info = new Uint8Array();
    this.#sweeping.add(slot);
  }

  async #sweep(): Promise<void> {
    for (const slot of [...this.#sweeping]) {
      const request = { group: slot.group, rowsMax: storageLimits.deleteRowsMax };
      try {
        let more = true;
        while (more && !this.#closed) {
          more = await this.#init.writer.call("sweep", request);
          this.#sinceCheckpointBytes += storageLimits.deleteRowsMax * 4096;
          this.#maybeCheckpoint();
        }
        if (!more) this.#sweeping.delete(slot);
      } catch (error) {
        this.#noteFailure(error);
        return;
      }
    }
  }

  /** Writes what is queued, then closes the database. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#maintenance.cancel();
    for (const slot of this.#slots.values()) {
      if (!slot.commitDirty || slot.destroyed || this.#refusal(slot) !== null) continue;
      this.#enqueue(slot, [this.#stateOperation(slot)], []).catch(() => {});
    }
    this.#closed = true;
    await this.flush();
    await this.#checkpointing;
    await this.#sweeper;
    await this.#init.reader.close();
    await this.#init.writer.close();
  }
}
