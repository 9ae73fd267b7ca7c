/**
 * The node's durable log of all groups. Group commit: while one transaction is on its way to the
 * disk the next batch collects. A promise of `append` resolves only after the disk has it. A group
 * whose batch failed takes no further writes until it is loaded again; a store whose disk or worker
 * failed takes none at all: there is no way to go on that could not forget something acknowledged.
 */

import type { Clock, Timer } from "../clock.ts";
import { storageLimits } from "../limits.ts";
import type { Entry, HardState, Member, VoteFloor } from "../raft/types.ts";
import { LogSweeper } from "./_log_sweeper.ts";
import { membersText, unpackEntries } from "./_packing.ts";
import { StorageError, type WorkerClient } from "./_worker_client.ts";
import { WriteQueue } from "./_write_queue.ts";
import { GroupLog } from "./group_log.ts";
import {
  ENTRY_KINDS,
  type GroupFate,
  type GroupRow,
  type LogCut,
  type WorkerCalls,
  type WriteOperation,
} from "./types.ts";

export interface StoredGroup {
  readonly id: string;
  readonly members: readonly Member[];
  readonly info: Uint8Array;
  readonly fate: GroupFate;
  /** What the log is cut behind; known once the group was loaded. */
  readonly cut: LogCut | null;
}

export interface LoadedGroup {
  readonly id: string;
  readonly members: readonly Member[];
  readonly info: Uint8Array;
  readonly hardState: HardState;
  readonly cut: LogCut | null;
  readonly floor: VoteFloor | null;
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
  fate: GroupFate;
  cut: LogCut | null;
  log: GroupLog | null;
  failed: Error | null;
  hardState: HardState;
  /** The commit index on disk is older; when it, or the whole hard state, was last handed over. */
  commitDirty: boolean;
  lastStateMs: number;
  lastAppendMs: number;
}

export interface LogStoreInit {
  readonly writer: WorkerClient;
  readonly reader: WorkerClient;
  readonly clock: Clock;
  readonly groups: readonly GroupRow[];
}

const NO_STATE: HardState = { term: 0, votedFor: null, commit: 0 };

export class LogStore {
  readonly #init: LogStoreInit;
  readonly #slots = new Map<string, GroupSlot>();
  readonly #writes: WriteQueue<GroupSlot>;
  #failed: StorageError | null = null;
  readonly #failure = Promise.withResolvers<StorageError>();
  #closed = false;
  #sinceCheckpointBytes = 0;
  #checkpointing: Promise<void> | null = null;
  readonly #sweeper: LogSweeper;
  readonly #maintenance: Timer;

  constructor(init: LogStoreInit) {
    this.#init = init;
    this.#writes = new WriteQueue({
      writer: init.writer,
      fault: (slot) => this.#fault(slot),
      onFailure: (error) => this.#noteFailure(error),
      onWritten: (bytes) => {
        this.#sinceCheckpointBytes += bytes;
        this.#maybeCheckpoint();
      },
    });
    this.#sweeper = new LogSweeper({
      writer: init.writer,
      onDeleted: (bytes) => {
        this.#sinceCheckpointBytes += bytes;
        this.#maybeCheckpoint();
      },
      onError: (error) => this.#noteFailure(error),
    });
    for (const row of init.groups) {
      const slot = this.#slotOf(row);
      this.#slots.set(row.id, slot);
      if (row.fate !== "held") this.#sweeper.add(row.group, "all");
    }
    this.#maintenance = init.clock.every(storageLimits.commitFlushMs, () => this.#maintain());
  }

  #slotOf(row: GroupRow): GroupSlot {
    return {
      group: row.group,
      id: row.id,
      members: JSON.parse(row.members) as Member[],
      info: row.info,
      fate: row.fate,
      cut: null,
      log: null,
      failed: null,
      hardState: NO_STATE,
      commitDirty: false,
      lastStateMs: 0,
      lastAppendMs: 0,
    };
  }

  /** Resolves if the whole store fails; the process should then end. */
  get failure(): Promise<StorageError> {
    return this.#failure.promise;
  }

  /** All groups of this node, tombstones included. */
  groups(): StoredGroup[] {
    return [...this.#slots.values()].map(({ id, members, info, fate, cut }) => ({
      ...{ id, members, info, fate, cut },
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
    const text = membersText(members);
    const known = this.#slots.get(id);
    if (known?.fate === "left") return this.#revive(known, { members: text, info });
    if (known !== undefined) throw new TypeError(`Cannot create group "${id}": it exists already`);
    const placeholder = this.#slotOf({ group: -1, id, members: text, info, fate: "held" });
    placeholder.failed = new Error(`Cannot use group "${id}": it is still being created`);
    this.#slots.set(id, placeholder);
    try {
      const group = await this.#init.writer.call("create", { id, members: text, info });
      this.#slots.set(id, this.#slotOf({ group, id, members: text, info, fate: "held" }));
    } catch (error) {
      this.#slots.delete(id);
      throw this.#noteFailure(error);
    }
  }

  /** This node was a member before, left, and is to be one again. */
  async #revive(slot: GroupSlot, given: { members: string; info: Uint8Array }): Promise<void> {
    const { group } = slot;
    // What is left of the old log must be gone first.
    await this.#sweeper.start();
    if (this.#sweeper.has(group)) {
      throw new StorageError(
        `Cannot create group "${slot.id}": its old log is still there`,
        "other",
      );
    }
    await this.#init.writer.call("revive", { group, ...given }).catch((error: unknown) => {
      throw this.#noteFailure(error);
    });
    this.#slots.set(slot.id, this.#slotOf({ group, id: slot.id, ...given, fate: "held" }));
  }

  /** Reads a group's durable state and makes its log available. Also after a failed write. */
  async load(id: string, hooks: LoadHooks = {}): Promise<LoadedGroup> {
    const slot = this.#slots.get(id);
    if (slot === undefined || slot.fate !== "held" || slot.group < 0) {
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
      cutTerm: state.cut?.term ?? 0,
      runs: state.runs,
      configs: state.configs.map((config) => ({ ...config, kind: "config" })),
      read: async (from, to, bytesMax) => {
        const request = { group: slot.group, from, to, bytesMax };
        return unpackEntries(await this.#init.reader.call("read", request));
      },
      ...hooks,
    });
    slot.log = log;
    slot.cut = state.cut;
    if (state.cut !== null) this.#sweeper.add(slot.group, "cut");
    const { members, info } = slot;
    return {
      id,
      members,
      info,
      hardState: slot.hardState,
      cut: state.cut,
      floor: state.floor,
      log,
    };
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
    const operations: WriteOperation[] = [];
    if (entries.length > 0) {
      slot.lastAppendMs = this.#init.clock.now();
      operations.push(this.#appendOperation(slot, entries));
    }
    const { term, votedFor } = slot.hardState;
    if (hardState !== null && (hardState.term !== term || hardState.votedFor !== votedFor)) {
      slot.hardState = hardState;
      operations.push(this.#stateOperation(slot));
    } else {
      if (hardState !== null) this.noteCommit(id, hardState.commit);
      if (this.#isCommitDue(slot)) operations.push(this.#stateOperation(slot));
    }
    return this.#writes.add(slot, operations, entries);
  }

  /**
   * Only the commit index moved: written with a batch of the group about a second later, or by
   * itself. Not with every batch: it would be one more page for each entry.
   */
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

  #isCommitDue(slot: GroupSlot): boolean {
    const dueMs = slot.lastStateMs + storageLimits.commitFlushMs;
    return slot.commitDirty && this.#init.clock.now() >= dueMs;
  }

  #stateOperation(slot: GroupSlot): WriteOperation {
    slot.commitDirty = false;
    slot.lastStateMs = this.#init.clock.now();
    return { kind: "hard_state", group: slot.group, ...slot.hardState };
  }

  putMeta(key: string, value: Uint8Array | null): Promise<void> {
    const error = this.#refusal(null);
    if (error !== null) return Promise.reject(error);
    return this.#writes.add(null, [{ kind: "meta", key, value }], []);
  }

  /** Why a write that was taken cannot be carried out any more. */
  #fault(slot: GroupSlot | null): Error | null {
    if (this.#failed !== null) return this.#failed;
    if (slot !== null && slot.fate !== "held") {
      return new TypeError(`Cannot write group "${slot.id}": it was ${slot.fate}`);
    }
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

  /**
   * Hands what is queued to the worker now, unless it is at work. For an owner that has appended
   * all that belongs together and is about to do something else in this turn.
   */
  begin(): void {
    this.#writes.begin();
  }

  /** Resolves when everything appended so far is durable or has failed. */
  flush(): Promise<void> {
    return this.#writes.flush();
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
      if (this.#isCommitDue(slot) && slot.failed === null && slot.fate === "held") {
        this.#writes.add(slot, [this.#stateOperation(slot)], []).catch(() => {});
      }
      if (slot.log !== null && slot.lastAppendMs < idleBefore) {
        slot.log.trim(storageLimits.idleTailBytesMax);
        slot.log.dropCold();
      }
    }
    void this.#sweeper.start();
  }

  /** Leaves a tombstone at once; the entries go in small steps between other writes. */
  destroy(id: string): Promise<void> {
    return this.#drop(id, "destroyed");
  }

  /** The same, but this node may become a member again: it remembers its vote. */
  leave(id: string): Promise<void> {
    return this.#drop(id, "left");
  }

  async #drop(id: string, fate: GroupFate): Promise<void> {
    const slot = this.#slots.get(id);
    if (slot === undefined || slot.fate !== "held" || slot.group < 0) return;
    this.#check(null);
    await this.flush();
    slot.fate = fate;
    slot.log = null;
    slot.cut = null;
    try {
      await this.#init.writer.call("destroy", { group: slot.group, fate });
    } catch (error) {
      slot.fate = "held";
      throw this.#noteFailure(error);
    }
    slot.members = [];
    slot.info = new Uint8Array();
    this.#sweeper.add(slot.group, "all");
  }

  /**
   * A checkpoint, which is durable by now, stands for the log up to `cut`; `members` are those of
   * the entries up to there. The entries go in small steps.
   */
  async cut(id: string, cut: LogCut, members: readonly Member[]): Promise<void> {
    const slot = this.#held(id, "cut");
    const { log } = slot;
    if (log === null || cut.index < log.firstIndex) return;
    if (cut.index > log.lastIndex || log.term(cut.index) !== cut.term) {
      throw new RangeError(`Cannot cut group "${id}" at entry ${cut.index}: the log has it not`);
    }
    await this.#call("cut", { group: slot.group, cut, members: membersText(members) });
    slot.cut = cut;
    slot.members = members;
    log.cutTo(cut.index, cut.term);
    this.#sweeper.add(slot.group, "cut");
  }

  /**
   * A checkpoint of another member takes the place of this node's log. To be called while the group
   * is not loaded by anybody. Whoever holds entries of a term has seen that term; a vote of that
   * very term stays.
   */
  async seed(id: string, cut: LogCut, members: readonly Member[]): Promise<void> {
    const slot = this.#held(id, "seed");
    await this.flush();
    const { group } = slot;
    const before = await this.#init.reader.call("load", { group });
    const isNewTerm = before.term < cut.term;
    const term = Math.max(before.term, cut.term);
    const vote = isNewTerm ? null : before.votedFor;
    const text = membersText(members);
    await this.#call("seed", { group, cut, members: text, term, vote });
    slot.log = null;
    slot.cut = cut;
    slot.members = members;
  }

  #held(id: string, verb: string): GroupSlot {
    const slot = this.#slots.get(id);
    if (slot !== undefined && slot.fate === "held" && slot.group >= 0) return slot;
    throw new TypeError(`Cannot ${verb} group "${id}": this node does not hold it`);
  }

  async #call(
    name: "cut" | "seed",
    request: WorkerCalls["cut"]["request"] | WorkerCalls["seed"]["request"],
  ): Promise<void> {
    this.#check(null);
    try {
      await this.#init.writer.call(name, request as WorkerCalls["seed"]["request"]);
    } catch (error) {
      throw this.#noteFailure(error);
    }
  }

  /** Writes what is queued, then closes the database. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#maintenance.cancel();
    for (const slot of this.#slots.values()) {
      if (!slot.commitDirty || this.#refusal(slot) !== null) continue;
      this.#writes.add(slot, [this.#stateOperation(slot)], []).catch(() => {});
    }
    this.#closed = true;
    await this.flush();
    await this.#checkpointing;
    await this.#sweeper.stop();
    await this.#init.reader.close();
    await this.#init.writer.close();
  }
}
