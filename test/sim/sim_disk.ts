/**
 * A disk with group commit: writes queue up while one batch is being synced. A crash keeps some
 * prefix of what was not yet acknowledged, as a real disk may; what was acknowledged stays. It is
 * also the log reader of its node's core.
 */

import type { Entry, HardState, LogReader, Member, VoteFloor } from "../../mesh/raft/mod.ts";
import type { Prng } from "../../src/prng.ts";
import type { EventQueue } from "./event_queue.ts";

export interface DiskWrite {
  readonly number: number;
  readonly hardState: HardState | null;
  readonly entries: readonly Entry[];
  readonly mustSync: boolean;
  readonly done: () => void;
}

/** What a checkpoint holds besides the VM: where it was taken, and who the members were. */
export interface Checkpoint {
  readonly index: number;
  readonly term: number;
  readonly members: readonly Member[];
  readonly outputs: readonly number[];
  readonly history: number;
}

export interface DiskFaults {
  /** Acknowledges before the sync (canary). */
  readonly acksEarly: boolean;
  /** Writes the term without the vote (canary). */
  readonly forgetsVotes: boolean;
  /** Does not remember where a log ended that was given up (canary). */
  readonly forgetsFloor: boolean;
}

/** Entries that a lazy log holds in memory after a load, and how long that takes. */
const LOADED_COUNT = 20;
const LOAD_MS_MAX = 20;

export class SimDisk implements LogReader {
  readonly #queue: EventQueue;
  readonly #prng: Prng;
  readonly #faults: DiskFaults;
  syncMs: () => number;
  /** Called at each write point; true if the node crashed there. */
  crashPoint: () => boolean = () => false;
  /** Not null: entries have to be loaded before they can be read, and this says that they are. */
  onLoaded: (() => void) | null = null;
  hardState: HardState | null = null;
  checkpoint: Checkpoint;
  /** Where a log ended that was given up. */
  floor: VoteFloor | null = null;
  readonly #founding: Checkpoint;
  #entries: Entry[] = [];
  #waiting: DiskWrite[] = [];
  #syncing: DiskWrite[] = [];
  #epoch = 0;
  #loadedFrom = 0;
  #isLoading = false;

  constructor(queue: EventQueue, prng: Prng, options: DiskOptions) {
    this.#queue = queue;
    this.#prng = prng;
    this.#faults = options.faults;
    this.syncMs = options.syncMs;
    this.checkpoint = { index: 0, term: 0, members: options.members, outputs: [], history: 0 };
    this.#founding = this.checkpoint;
  }

  get firstIndex(): number {
    return this.checkpoint.index + 1;
  }

  get lastIndex(): number {
    return this.checkpoint.index + this.#entries.length;
  }

  term(index: number): number {
    if (index === this.checkpoint.index) return this.checkpoint.term;
    const entry = this.#entries[index - this.firstIndex];
    if (!entry) throw new RangeError(`Cannot read entry "${index}": it is not stored`);
    return entry.term;
  }

  slice(from: number, to: number, bytesMax: number): readonly Entry[] {
    if (this.onLoaded && !this.#isLoaded(from, to)) {
      this.#load(from);
      return [];
    }
    const found: Entry[] = [];
    let bytes = 0;
    for (let index = from; index < to; index += 1) {
      const entry = this.#entries[index - this.firstIndex];
      if (!entry) throw new RangeError(`Cannot read entry "${index}": it is not stored`);
      bytes += entry.data.length;
      if (found.length > 0 && bytes > bytesMax) break;
      found.push(entry);
    }
    return found;
  }

  configIndexes(): readonly number[] {
    return this.#entries.filter(({ kind }) => kind === "config").map(({ index }) => index);
  }

  /** A lazy log has one short range in memory; a membership is always at hand. */
  #isLoaded(from: number, to: number): boolean {
    if (to === from + 1 && this.#entries[from - this.firstIndex]?.kind === "config") return true;
    return from >= this.#loadedFrom && from < this.#loadedFrom + LOADED_COUNT;
  }

  #load(from: number): void {
    if (this.#isLoading) return;
    this.#isLoading = true;
    const epoch = this.#epoch;
    this.#queue.after(this.#prng.between(1, LOAD_MS_MAX), () => {
      if (epoch !== this.#epoch) return;
      this.#isLoading = false;
      this.#loadedFrom = from;
      this.onLoaded?.();
    });
  }

  /** Is this very entry durable here? */
  holds(index: number, term: number): boolean {
    if (index <= this.checkpoint.index) return true;
    return this.#entries[index - this.firstIndex]?.term === term;
  }

  submit(write: DiskWrite): void {
    if (this.crashPoint()) return;
    if (!write.mustSync && this.#waiting.length === 0 && this.#syncing.length === 0) {
      this.#store(write);
      write.done();
      return;
    }
    this.#waiting.push(write);
    if (this.#syncing.length === 0) this.#startSync();
    if (this.#faults.acksEarly) write.done();
  }

  /** Power is gone: of what was not acknowledged, some prefix is there afterwards. */
  crash(): void {
    const pending = [...this.#syncing, ...this.#waiting];
    const kept = this.#faults.acksEarly ? 0 : this.#prng.between(0, pending.length);
    for (let i = 0; i < kept; i += 1) this.#store(pending[i]!);
    this.#waiting = [];
    this.#syncing = [];
    this.#isLoading = false;
    this.#epoch += 1;
  }

  /** Removes entries up to `checkpoint`, which stands for them. */
  cut(checkpoint: Checkpoint): void {
    this.#entries.splice(0, checkpoint.index - this.checkpoint.index);
    this.checkpoint = checkpoint;
  }

  /** The node is no member any more: everything goes but the term, the vote and the floor. */
  leave(): void {
    this.#raiseFloor();
    this.#entries = [];
    this.checkpoint = this.#founding;
    if (this.hardState !== null) this.hardState = { ...this.hardState, commit: 0 };
  }

  #raiseFloor(): void {
    if (this.#faults.forgetsFloor || this.lastIndex === 0) return;
    const last = { index: this.lastIndex, term: this.term(this.lastIndex) };
    const { floor } = this;
    const isNewer =
      floor === null ||
      last.term > floor.term ||
      (last.term === floor.term && last.index > floor.index);
    if (isNewer) this.floor = last;
  }

  /** A copy of another node's checkpoint replaces the log. */
  seed(checkpoint: Checkpoint): void {
    this.#raiseFloor();
    this.#entries = [];
    this.checkpoint = checkpoint;
    const { index: commit, term } = checkpoint;
    // Whoever holds a term's entries has seen that term; a vote of the same term stays.
    const isNewTerm = this.hardState === null || this.hardState.term < term;
    this.hardState = isNewTerm ? { term, votedFor: null, commit } : { ...this.hardState!, commit };
  }

  #startSync(): void {
    this.#syncing = this.#waiting;
    this.#waiting = [];
    const epoch = this.#epoch;
    this.#queue.after(this.syncMs(), () => {
      if (epoch === this.#epoch) this.#finishSync();
    });
  }

  #finishSync(): void {
    const batch = this.#syncing;
    for (const write of batch) this.#store(write);
    this.#syncing = [];
    const epoch = this.#epoch;
    for (const write of batch) {
      if (epoch !== this.#epoch || this.crashPoint()) return;
      if (!this.#faults.acksEarly) write.done();
    }
    if (epoch === this.#epoch && this.#waiting.length > 0 && this.#syncing.length === 0) {
      this.#startSync();
    }
  }

  #store(write: DiskWrite): void {
    if (write.hardState) {
      const { term, commit } = write.hardState;
      this.hardState = this.#faults.forgetsVotes
        ? { term, votedFor: null, commit }
        : write.hardState;
    }
    const [first] = write.entries;
    if (!first) return;
    this.#entries.length = first.index - this.firstIndex;
    for (const entry of write.entries) this.#entries.push(entry);
  }
}

export interface DiskOptions {
  readonly members: readonly Member[];
  readonly faults: DiskFaults;
  readonly syncMs: () => number;
}
