/**
 * The log of one group as the core reads it: exact terms of all indexes, the newest entries in
 * memory, older ones fetched on demand. It shows durable entries only, and never blocks: a range
 * that is not in memory gives an empty slice while it is being loaded.
 */

import { storageLimits } from "../limits.ts";
import type { Entry, LogReader } from "../raft/types.ts";
import type { TermRun } from "./types.ts";

export interface GroupLogInit {
  readonly firstIndex: number;
  readonly lastIndex: number;
  /** Of the entry before the first one. */
  readonly cutTerm: number;
  readonly runs: readonly TermRun[];
  /** The stored entries of kind `config`. */
  readonly configs: readonly Entry[];
  /** Reads stored entries in [from, to), at least one, at most `bytesMax` of data. */
  readonly read: (from: number, to: number, bytesMax: number) => Promise<readonly Entry[]>;
  /** A range that an earlier slice() lacked is in memory now. */
  readonly onLoaded?: () => void;
  /** The range could not be read: the group has to stop. */
  readonly onError?: (error: Error) => void;
}

interface ColdRange {
  readonly from: number;
  readonly entries: readonly Entry[];
}

function bytesOf(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const entry of entries) bytes += entry.data.length;
  return bytes;
}

/** The entries of `source` (which begins at `first`) in [from, to) within `bytesMax`. */
function cut(source: readonly Entry[], first: number, range: [number, number, number]): Entry[] {
  const [from, to, bytesMax] = range;
  const result: Entry[] = [];
  let bytes = 0;
  for (let at = from - first; at < source.length && at < to - first; at += 1) {
    const entry = source[at]!;
    bytes += entry.data.length;
    if (result.length > 0 && bytes > bytesMax) break;
    result.push(entry);
  }
  return result;
}

export class GroupLog implements LogReader {
  readonly #init: GroupLogInit;
  readonly #runs: TermRun[];
  /** Kept in memory: the core needs them at once when it starts. */
  readonly #configs: Entry[];
  #firstIndex: number;
  #cutTerm: number;
  #lastIndex: number;
  #tail: Entry[] = [];
  #tailFirst: number;
  #tailBytes = 0;
  readonly #cold: ColdRange[] = [];
  readonly #loading = new Set<number>();
  /** Counts truncations, so that a load begun before one cannot bring back what it dropped. */
  #generation = 0;

  constructor(init: GroupLogInit) {
    this.#init = init;
    this.#runs = [...init.runs];
    this.#configs = [...init.configs];
    this.#firstIndex = init.firstIndex;
    this.#cutTerm = init.cutTerm;
    this.#lastIndex = init.lastIndex;
    this.#tailFirst = init.lastIndex + 1;
  }

  get firstIndex(): number {
    return this.#firstIndex;
  }

  get lastIndex(): number {
    return this.#lastIndex;
  }

  term(index: number): number {
    if (index === this.#firstIndex - 1) return this.#cutTerm;
    if (index < this.#firstIndex || index > this.#lastIndex) {
      const range = `${this.#firstIndex}..${this.#lastIndex}`;
      throw new RangeError(`Cannot read the term of entry ${index}: the log holds ${range}`);
    }
    let low = 0;
    let high = this.#runs.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#runs[middle]!.index <= index) low = middle;
      else high = middle - 1;
    }
    return this.#runs[low]!.term;
  }

  /** The stored entries of kind `config`, ascending. */
  get configs(): readonly Entry[] {
    return this.#configs;
  }

  configIndexes(): readonly number[] {
    return this.#configs.map(({ index }) => index);
  }

  slice(from: number, to: number, bytesMax: number): readonly Entry[] {
    if (from < this.#firstIndex) {
      throw new RangeError(`Cannot read entry ${from}: the log begins at ${this.#firstIndex}`);
    }
    const end = Math.min(to, this.#lastIndex + 1);
    if (from >= end) return [];
    const found = this.peek(from, { to: end, bytesMax });
    if (found.length === 0) this.#load(from);
    return found;
  }

  /** Like slice, but never begins a load. */
  peek(from: number, options: { to: number; bytesMax: number }): readonly Entry[] {
    const { to, bytesMax } = options;
    if (from >= this.#tailFirst) return cut(this.#tail, this.#tailFirst, [from, to, bytesMax]);
    for (const range of this.#cold) {
      if (from < range.from || from >= range.from + range.entries.length) continue;
      return cut(range.entries, range.from, [from, to, bytesMax]);
    }
    const config = this.#configs.find(({ index }) => index === from);
    return config === undefined ? [] : [config];
  }

  /** Entries in [from, to) from memory or from the database; at least one if from <= lastIndex. */
  async fetch(from: number, options: { to: number; bytesMax: number }): Promise<readonly Entry[]> {
    const to = Math.min(options.to, this.#lastIndex + 1);
    if (from >= to) return [];
    const found = this.peek(from, { to, bytesMax: options.bytesMax });
    if (found.length > 0) return found;
    const generation = this.#generation;
    const entries = await this.#init.read(from, to, options.bytesMax);
    if (generation !== this.#generation) return this.fetch(from, options);
    return entries;
  }

  #load(from: number): void {
    if (this.#loading.has(from) || this.#loading.size >= storageLimits.coldRangesMax) return;
    this.#loading.add(from);
    const generation = this.#generation;
    const to = Math.min(this.#lastIndex + 1, this.#tailFirst);
    this.#init.read(from, to, storageLimits.readBytesMax).then(
      (entries) => {
        this.#loading.delete(from);
        if (generation === this.#generation) this.#keepCold({ from, entries });
        this.#init.onLoaded?.();
      },
      (error: Error) => {
        this.#loading.delete(from);
        this.#init.onError?.(error);
      },
    );
  }

  #keepCold(range: ColdRange): void {
    if (range.entries.length === 0) return;
    if (this.#cold.length >= storageLimits.coldRangesMax) this.#cold.shift();
    this.#cold.push(range);
  }

  /** The store made these entries durable, replacing what was stored from entries[0].index on. */
  appended(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    if (first.index <= this.#lastIndex) this.#truncate(first.index);
    for (const entry of entries) {
      const run = this.#runs.at(-1);
      if (run === undefined || run.term !== entry.term) {
        this.#runs.push({ index: entry.index, term: entry.term });
      }
      if (entry.kind === "config") this.#configs.push(entry);
      this.#tail.push(entry);
      this.#lastIndex = entry.index;
    }
    this.#tailBytes += bytesOf(entries);
    this.trim(storageLimits.tailBytesMax);
  }

  #truncate(from: number): void {
    this.#generation += 1;
    this.#cold.length = 0;
    while (this.#configs.length > 0 && this.#configs.at(-1)!.index >= from) this.#configs.pop();
    while (this.#runs.length > 0 && this.#runs.at(-1)!.index >= from) this.#runs.pop();
    if (from <= this.#tailFirst) {
      this.#tail = [];
      this.#tailFirst = from;
      this.#tailBytes = 0;
    } else {
      this.#tailBytes -= bytesOf(this.#tail.splice(from - this.#tailFirst));
    }
    this.#lastIndex = from - 1;
  }

  /** Entries up to `index` are gone: a checkpoint stands for them. */
  cutTo(index: number, term: number): void {
    if (index < this.#firstIndex) return;
    this.#firstIndex = index + 1;
    this.#cutTerm = term;
    this.#cold.length = 0;
    while (this.#configs.length > 0 && this.#configs[0]!.index <= index) this.#configs.shift();
    while (this.#runs.length > 1 && this.#runs[1]!.index <= index + 1) this.#runs.shift();
    const drop = Math.min(this.#tail.length, Math.max(0, index + 1 - this.#tailFirst));
    this.#tailBytes -= bytesOf(this.#tail.splice(0, drop));
    this.#tailFirst = Math.max(this.#tailFirst, index + 1);
  }

  /** Drops the oldest entries in memory until at most `bytesMax` of data are left. */
  trim(bytesMax: number): void {
    if (this.#tailBytes <= bytesMax) return;
    let drop = 0;
    while (drop < this.#tail.length && this.#tailBytes > bytesMax) {
      this.#tailBytes -= this.#tail[drop]!.data.length;
      drop += 1;
    }
    this.#tail.splice(0, drop);
    this.#tailFirst += drop;
  }

  /** Forgets ranges that were loaded for followers which have caught up since. */
  dropCold(): void {
    this.#cold.length = 0;
  }
}
