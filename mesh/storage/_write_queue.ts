/**
 * Group commit: while one transaction is on its way to the disk, the next batch collects. Writes
 * become durable in the order in which they were added; a batch that fails fails every write in it.
 */

import { storageLimits } from "../limits.ts";
import type { Entry } from "../raft/types.ts";
import { packWrites } from "./_packing.ts";
import type { WorkerClient } from "./_worker_client.ts";
import type { WriteOperation } from "./types.ts";

/** What a write belongs to; null: to no group. */
interface Slot {
  readonly log: { readonly lastIndex: number; appended(entries: readonly Entry[]): void } | null;
  failed: Error | null;
}

interface PendingWrite<S> {
  readonly slot: S | null;
  readonly operations: readonly WriteOperation[];
  readonly entries: readonly Entry[];
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface WriteQueueInit<S> {
  readonly writer: WorkerClient;
  /** Why a write that was taken cannot be carried out any more. */
  readonly fault: (slot: S | null) => Error | null;
  readonly onFailure: (error: unknown) => Error;
  /** About so many bytes went through the write-ahead log. */
  readonly onWritten: (bytes: number) => void;
}

export class WriteQueue<S extends Slot> {
  readonly #init: WriteQueueInit<S>;
  #queue: PendingWrite<S>[] = [];
  /** Until the queue is empty; the batch that the worker has. */
  #writing: Promise<void> | null = null;
  #batch: Promise<void> | null = null;

  constructor(init: WriteQueueInit<S>) {
    this.#init = init;
  }

  /** Resolves when everything added so far is durable or has failed. */
  async flush(): Promise<void> {
    while (this.#writing !== null) await this.#writing;
  }

  add(
    slot: S | null,
    operations: readonly WriteOperation[],
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
    while (this.#queue.length > 0 || this.#batch !== null) {
      this.begin();
      await this.#batch;
    }
    this.#writing = null;
  }

  /**
   * Hands what is queued to the worker now, unless it is at work. For an owner that has appended
   * all that belongs together and is about to do something else in this turn.
   */
  begin(): void {
    if (this.#batch !== null || this.#queue.length === 0) return;
    this.#batch = this.#writeBatch(this.#takeBatch()).finally(() => {
      this.#batch = null;
    });
  }

  #takeBatch(): PendingWrite<S>[] {
    let bytes = 0;
    let count = 0;
    for (const write of this.#queue) {
      if (count > 0 && bytes + write.bytes > storageLimits.batchBytesMax) break;
      bytes += write.bytes;
      count += 1;
    }
    return this.#queue.splice(0, count);
  }

  async #writeBatch(batch: PendingWrite<S>[]): Promise<void> {
    const live = batch.filter((write) => {
      const error = this.#init.fault(write.slot);
      if (error !== null) write.reject(error);
      return error === null;
    });
    if (live.length === 0) return;
    const { operations, data } = packWrites(live);
    try {
      await this.#init.writer.call("write", { operations, data }, [data.buffer as ArrayBuffer]);
    } catch (error) {
      const failure = this.#init.onFailure(error);
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
    this.#init.onWritten(data.byteLength + 4096 * operations.length);
  }
}
