/**
 * What is known about console input of one VM: the newest sequence number of each source that is
 * committed, and who waits for one. Input is acknowledged only when committed; a client that never
 * heard so sends it again, and the machine itself drops what it has seen. Owns no data bytes.
 */

/** As many sources as the machine itself remembers; the least recently used is forgotten. */
export const inputSourcesMax = 256;

/** Each waiter is an open request; more than this means a client that does not wait its turn. */
export const inputWaitersMax = 1024;

interface Waiter {
  readonly source: number;
  readonly seq: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface Applied {
  readonly source: number;
  readonly seq: number;
  readonly chunkCount: number;
}

export class InputLedger {
  #committedSeq = new Map<number, number>();
  #applied: Applied[] = [];
  #waiters = new Set<Waiter>();

  isCommitted(source: number, seq: number): boolean {
    return (this.#committedSeq.get(source) ?? 0) >= seq;
  }

  /** The machine took the input; it is safe once `chunkCount` chunks of the log are committed. */
  applied(input: Applied, committedCount: number): void {
    this.#applied.push(input);
    this.committed(committedCount);
  }

  committed(chunkCount: number): void {
    for (;;) {
      const first = this.#applied[0];
      if (first === undefined || first.chunkCount > chunkCount) return;
      this.#applied.shift();
      this.#commit(first);
    }
  }

  /** Forgets what was applied but not committed, and sends its waiters away. */
  reset(reason: Error): void {
    this.#applied = [];
    for (const waiter of [...this.#waiters]) waiter.reject(reason);
  }

  /** Resolves when the input is committed; rejects at a reset or the signal. */
  wait(
    source: number,
    options: { readonly seq: number; readonly signal: AbortSignal },
  ): Promise<void> {
    const { seq, signal } = options;
    if (this.isCommitted(source, seq)) return Promise.resolve();
    if (this.#waiters.size >= inputWaitersMax) {
      return Promise.reject(new RangeError("too much console input is waiting"));
    }
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void) => (): void => {
        this.#waiters.delete(waiter);
        signal.removeEventListener("abort", aborted);
        finish();
      };
      const aborted = settle(() => reject(new Error("it was not acknowledged in time")));
      const waiter: Waiter = {
        source,
        seq,
        resolve: settle(resolve),
        reject: (error) => settle(() => reject(error))(),
      };
      this.#waiters.add(waiter);
      if (signal.aborted) aborted();
      else signal.addEventListener("abort", aborted, { once: true });
    });
  }

  #commit(input: Applied): void {
    const newest = Math.max(input.seq, this.#committedSeq.get(input.source) ?? 0);
    this.#committedSeq.delete(input.source);
    this.#committedSeq.set(input.source, newest);
    if (this.#committedSeq.size > inputSourcesMax) {
      const oldest = this.#committedSeq.keys().next().value;
      if (oldest !== undefined) this.#committedSeq.delete(oldest);
    }
    for (const waiter of [...this.#waiters]) {
      if (waiter.source === input.source && waiter.seq <= newest) waiter.resolve();
    }
  }
}
