/**
 * Deletes entries that count for nothing any more: of groups that are not held, and before a cut.
 * In small steps between other writes, so that no commit waits long for it.
 */

import { storageLimits } from "../limits.ts";
import type { WorkerClient } from "./_worker_client.ts";

const PAGE_BYTES = 4096;

export interface LogSweeperInit {
  readonly writer: WorkerClient;
  /** About so many bytes went through the write-ahead log. */
  readonly onDeleted: (bytes: number) => void;
  readonly onError: (error: unknown) => void;
}

export class LogSweeper {
  readonly #init: LogSweeperInit;
  readonly #waiting = new Map<number, "all" | "cut">();
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor(init: LogSweeperInit) {
    this.#init = init;
  }

  add(group: number, what: "all" | "cut"): void {
    this.#waiting.set(group, what);
  }

  has(group: number): boolean {
    return this.#waiting.has(group);
  }

  /** Resolves when all that was added before is deleted, or could not be. */
  async start(): Promise<void> {
    while (this.#waiting.size > 0 && !this.#stopped) {
      const before = this.#waiting.size;
      this.#running ??= this.#run().finally(() => {
        this.#running = null;
      });
      await this.#running;
      if (this.#waiting.size >= before) return;
    }
  }

  async #run(): Promise<void> {
    const { writer, onDeleted, onError } = this.#init;
    const rowsMax = storageLimits.deleteRowsMax;
    for (const [group, what] of [...this.#waiting]) {
      try {
        const name = what === "all" ? "sweep" : "sweepCut";
        while (!this.#stopped && (await writer.call(name, { group, rowsMax }))) {
          onDeleted(rowsMax * PAGE_BYTES);
        }
        if (this.#stopped) return;
        this.#waiting.delete(group);
      } catch (error) {
        onError(error);
        return;
      }
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }
}
