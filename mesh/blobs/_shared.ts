/**
 * One piece of work that several callers wait for. It is aborted when the last of them has lost
 * interest, and only then.
 */

export class Shared<T> {
  readonly promise: Promise<T>;
  readonly #abort = new AbortController();
  #waiters = 0;

  constructor(work: (signal: AbortSignal) => Promise<T>) {
    this.promise = work(this.#abort.signal);
    // Every waiter may be gone when it fails.
    this.promise.catch(() => {});
  }

  /** Nobody waited any more: it ends, and nobody may wait for it again. */
  get isAbandoned(): boolean {
    return this.#abort.signal.aborted;
  }

  async wait(signal: AbortSignal): Promise<T> {
    const gone = Promise.withResolvers<never>();
    const onAbort = () => gone.reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    this.#waiters += 1;
    try {
      return await Promise.race([this.promise, gone.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
      gone.promise.catch(() => {});
      this.#waiters -= 1;
      if (this.#waiters === 0) this.#abort.abort(new Error("nobody waits for it any more"));
    }
  }
}
