/**
 * The log as the core sees it: what is stored (read through the owner's `LogReader`) and a tail in
 * memory that holds at least all entries not yet durable. It owns the indexes `commit`, `persisted`
 * and `stored` (handed to storage), and guarantees that committed entries are never removed.
 */

import { ENTRY_OVERHEAD_BYTES, type RaftLimits } from "./limits.ts";
import type { SafetyRules } from "./safety_rules.ts";
import type { Entry, LogReader } from "./types.ts";

/** Log terms read to find where two logs may agree; a peer must not cause long scans. */
const HINT_STEPS_MAX = 1024;

const NO_ENTRIES: readonly Entry[] = [];

export function entryBytes(entry: Entry): number {
  return entry.data.length + ENTRY_OVERHEAD_BYTES;
}

export class RaftLog {
  readonly #reader: LogReader;
  readonly #limits: RaftLimits;
  readonly #rules: SafetyRules;
  /** Contiguous; `#tail[0]` has index `#tailStart`; everything before it is durable. */
  readonly #tail: Entry[] = [];
  #tailStart: number;
  #tailBytes = 0;
  #lastIndex: number;
  #lastTerm: number;
  #commit: number;
  /** Entries up to here were handed to storage in a Ready. */
  #storedIndex: number;
  #persistedIndex: number;
  #unpersistedBytes = 0;
  /** Writes under way, oldest first, each with the last entry that it makes durable. */
  readonly #writes: { number: number; lastIndex: number }[] = [];

  constructor(reader: LogReader, commit: number, options: LogOptions) {
    this.#reader = reader;
    this.#limits = options.limits;
    this.#rules = options.rules;
    this.#lastIndex = reader.lastIndex;
    this.#lastTerm = reader.term(reader.lastIndex);
    this.#tailStart = reader.lastIndex + 1;
    this.#storedIndex = reader.lastIndex;
    this.#persistedIndex = reader.lastIndex;
    // The commit index is written lazily, so it may be old; what was cut was committed.
    this.#commit = Math.min(Math.max(commit, reader.firstIndex - 1), reader.lastIndex);
  }

  get firstIndex(): number {
    return this.#reader.firstIndex;
  }

  get lastIndex(): number {
    return this.#lastIndex;
  }

  get lastTerm(): number {
    return this.#lastTerm;
  }

  get commit(): number {
    return this.#commit;
  }

  get persistedIndex(): number {
    return this.#persistedIndex;
  }

  get unpersistedBytes(): number {
    return this.#unpersistedBytes;
  }

  get hasUnstored(): boolean {
    return this.#storedIndex < this.#lastIndex;
  }

  /** Term at `index`; undefined when it was cut or lies beyond the end. */
  term(index: number): number | undefined {
    if (index >= this.#tailStart) return this.#tail[index - this.#tailStart]?.term;
    if (index === this.#lastIndex) return this.#lastTerm;
    if (index < this.#reader.firstIndex - 1) return undefined;
    if (index === 0) return 0;
    return this.#reader.term(index);
  }

  /**
   * Entries in [from, to), at most `bytesMax` but at least one; may be short where the tail begins.
   * Empty when the reader has to load them first.
   */
  slice(from: number, to: number, bytesMax: number): readonly Entry[] {
    if (from < this.#tailStart) {
      const entries = this.#reader.slice(from, Math.min(to, this.#tailStart), bytesMax);
      const first = entries[0]?.index;
      if (first !== undefined && first !== from) {
        throw new Error(`Cannot read entry "${from}": the log reader gave ${first}`);
      }
      return entries;
    }
    const start = from - this.#tailStart;
    const end = Math.min(to - this.#tailStart, this.#tail.length);
    let stop = start;
    let bytes = 0;
    while (stop < end) {
      bytes += entryBytes(this.#tail[stop]!);
      if (bytes > bytesMax && stop > start) break;
      stop += 1;
    }
    return this.#tail.slice(start, stop);
  }

  append(entry: Entry): void {
    if (entry.index !== this.#lastIndex + 1 || entry.term < this.#lastTerm) {
      throw new Error(`Cannot append entry "${entry.index}" behind ${this.#lastIndex}`);
    }
    this.#tail.push(entry);
    const bytes = entryBytes(entry);
    this.#tailBytes += bytes;
    this.#unpersistedBytes += bytes;
    this.#lastIndex = entry.index;
    this.#lastTerm = entry.term;
  }

  /** Removes entries from `index` on. That they are not committed is checked in every build. */
  truncate(index: number): void {
    if (!this.#rules.mayTruncate(index, this.#commit)) {
      throw new Error(`Cannot remove entry "${index}": entries to ${this.#commit} are committed`);
    }
    const lastTerm = this.term(index - 1);
    if (lastTerm === undefined) throw new Error(`Cannot remove entry "${index}": it was cut`);
    if (index < this.#tailStart) {
      this.#tail.length = 0;
      this.#tailStart = index;
      this.#tailBytes = 0;
    } else {
      for (const entry of this.#tail.splice(index - this.#tailStart)) {
        this.#tailBytes -= entryBytes(entry);
        if (entry.index > this.#persistedIndex) this.#unpersistedBytes -= entryBytes(entry);
      }
    }
    this.#lastIndex = index - 1;
    this.#lastTerm = lastTerm;
    this.#storedIndex = Math.min(this.#storedIndex, index - 1);
    // A write that is under way will make durable what is no longer in the log.
    for (const write of this.#writes) write.lastIndex = Math.min(write.lastIndex, index - 1);
    if (this.#persistedIndex >= index) {
      this.#persistedIndex = index - 1;
      this.#unpersistedBytes = 0;
    }
  }

  commitTo(index: number): boolean {
    if (index <= this.#commit) return false;
    if (index > this.#lastIndex) {
      throw new Error(`Cannot commit entry "${index}": the log ends at ${this.#lastIndex}`);
    }
    this.#commit = index;
    return true;
  }

  /** Entries that storage has not been given yet; they become durable with write `number`. */
  takeUnstored(number: number): readonly Entry[] {
    if (this.#storedIndex === this.#lastIndex) return NO_ENTRIES;
    const entries = this.#tail.slice(this.#storedIndex + 1 - this.#tailStart);
    this.#storedIndex = this.#lastIndex;
    this.#writes.push({ number, lastIndex: this.#lastIndex });
    return entries;
  }

  /** All writes up to `number` are durable. True if that holds for more of the log than before. */
  writtenThrough(number: number): boolean {
    let index = this.#persistedIndex;
    let done = 0;
    while (done < this.#writes.length && this.#writes[done]!.number <= number) {
      index = Math.max(index, this.#writes[done]!.lastIndex);
      done += 1;
    }
    if (done > 0) this.#writes.splice(0, done);
    if (index === this.#persistedIndex) return false;
    for (let i = this.#persistedIndex + 1; i <= index; i += 1) {
      this.#unpersistedBytes -= entryBytes(this.#tail[i - this.#tailStart]!);
    }
    this.#persistedIndex = index;
    if (this.#tailBytes > 2 * this.#limits.tailBytesMax) this.#trimTail();
    return true;
  }

  /**
   * The newest index in [floor, index] whose term is <= `term`: where a log with that term at
   * `index` can first agree with this one. It stops early after HINT_STEPS_MAX, which costs the
   * asker another round and nothing else.
   */
  conflictHint(index: number, term: number, floor: number): LogHint {
    let hint = Math.min(index, this.#lastIndex);
    let own = this.term(hint);
    for (let steps = 0; hint > floor && steps < HINT_STEPS_MAX; steps += 1) {
      if (own === undefined || own <= term) break;
      hint -= 1;
      own = this.term(hint);
    }
    return { index: hint, term: own ?? 0 };
  }

  #trimTail(): void {
    let count = 0;
    while (this.#tailBytes > this.#limits.tailBytesMax && count < this.#tail.length) {
      const entry = this.#tail[count]!;
      if (entry.index > this.#persistedIndex) break;
      this.#tailBytes -= entryBytes(entry);
      count += 1;
    }
    this.#tail.splice(0, count);
    this.#tailStart += count;
  }
}

export interface LogOptions {
  readonly limits: RaftLimits;
  readonly rules: SafetyRules;
}

export interface LogHint {
  readonly index: number;
  readonly term: number;
}
