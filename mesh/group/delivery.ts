/**
 * Hands committed entries to a group's handler: each once, in order, from the log's beginning, the
 * next batch only after the handler has settled the one before. What comes while the handler is
 * busy waits in a bounded queue; beyond that it is read from storage again, so a slow handler costs
 * no memory.
 */

import { groupLimits } from "../limits.ts";
import type { Entry } from "../raft/types.ts";

export interface DeliveryInit {
  /** The first index that there is to deliver. */
  readonly begin: () => number;
  readonly handle: (entries: readonly Entry[]) => void | Promise<void>;
  /** Stored entries in [from, to), at least one; called for durable committed entries only. */
  readonly fetch: (from: number, to: number) => Promise<readonly Entry[]>;
  /** The handler has settled all entries up to `index`. */
  readonly onDelivered: (index: number) => void;
  readonly onError: (error: Error) => void;
}

export class Delivery {
  readonly #init: DeliveryInit;
  /** Contiguous; newest committed entries that wait for the handler. */
  #queue: Entry[] = [];
  #queueBytes = 0;
  #next: number;
  #delivered: number;
  /** Committed and on this node's disk: may be read from storage. */
  #readable = 0;
  #running = false;
  #closed = false;
  #restart = false;

  constructor(init: DeliveryInit) {
    this.#init = init;
    this.#next = init.begin();
    this.#delivered = this.#next - 1;
  }

  /** The handler has settled everything up to here. */
  get delivered(): number {
    return this.#delivered;
  }

  /** Entries that were committed just now, and how far storage may be read. */
  offer(entries: readonly Entry[], readable: number): void {
    this.#readable = Math.max(this.#readable, readable);
    const first = entries[0];
    if (first !== undefined) this.#enqueue(first.index, entries);
    if (!this.#running) void this.#run();
  }

  #enqueue(first: number, entries: readonly Entry[]): void {
    const last = this.#queue.at(-1)?.index;
    if (last !== undefined && last + 1 !== first) return;
    for (const entry of entries) {
      const bytes = this.#queueBytes + entry.data.length;
      // The newest ones are left out; storage has them by the time they are needed.
      if (this.#queue.length > 0 && bytes > groupLimits.deliveryQueueBytesMax) return;
      this.#queue.push(entry);
      this.#queueBytes = bytes;
    }
  }

  /** Everything again from the beginning, after what the handler is at now. */
  restart(): void {
    this.#restart = true;
    if (!this.#running) void this.#run();
  }

  close(): void {
    this.#closed = true;
    this.#queue = [];
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      while (!this.#closed) {
        this.#applyRestart();
        let batch = this.#takeQueued();
        if (batch.length === 0) {
          if (this.#next > this.#readable) return;
          batch = await this.#fetch();
          if (this.#closed || this.#restart) continue;
        }
        const settled = this.#init.handle(batch);
        // No wait for a handler that did not ask for it: output would be late by a turn.
        if (settled !== undefined) await settled;
        if (this.#closed) return;
        if (this.#restart) continue;
        this.#next = batch.at(-1)!.index + 1;
        this.#delivered = this.#next - 1;
        this.#init.onDelivered(this.#delivered);
      }
    } catch (error) {
      if (!this.#closed) {
        this.close();
        this.#init.onError(error instanceof Error ? error : new Error(String(error)));
      }
    } finally {
      this.#running = false;
    }
  }

  #applyRestart(): void {
    if (!this.#restart) return;
    this.#restart = false;
    this.#next = this.#init.begin();
    this.#delivered = this.#next - 1;
    this.#queue = [];
    this.#queueBytes = 0;
  }

  async #fetch(): Promise<readonly Entry[]> {
    const to = Math.min(this.#readable + 1, this.#next + groupLimits.deliveryEntriesMax);
    const batch = await this.#init.fetch(this.#next, to);
    if (batch[0]?.index !== this.#next) {
      throw new Error(`Cannot read committed entry ${this.#next}: storage does not have it`);
    }
    return batch;
  }

  /** The next batch from memory; empty if the next entry is not there. */
  #takeQueued(): readonly Entry[] {
    let skip = 0;
    while (skip < this.#queue.length && this.#queue[skip]!.index < this.#next) skip += 1;
    if (skip > 0) this.#dropQueued(skip);
    if (this.#queue[0]?.index !== this.#next) return [];
    let count = 0;
    let bytes = 0;
    for (const entry of this.#queue) {
      bytes += entry.data.length;
      if (count > 0 && bytes > groupLimits.deliveryBytesMax) break;
      if (count === groupLimits.deliveryEntriesMax) break;
      count += 1;
    }
    return this.#dropQueued(count);
  }

  #dropQueued(count: number): readonly Entry[] {
    const dropped = this.#queue.splice(0, count);
    for (const entry of dropped) this.#queueBytes -= entry.data.length;
    return dropped;
  }
}
