/**
 * Time as the mesh sees it: monotonic milliseconds and cancellable timers. Code that is tested by
 * simulation takes a `Clock` and never reads the wall clock or calls `setTimeout` itself.
 */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic milliseconds; only differences mean something. */
  now(): number;
  /** Runs `callback` once after `delayMs`. Timers do not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer;
  /** Runs `callback` each `periodMs` until cancelled. */
  every(periodMs: number, callback: () => void): Timer;
  /** Resolves after `delayMs`; rejects with the signal's reason when it is aborted. */
  sleep(delayMs: number, options?: { signal?: AbortSignal | undefined }): Promise<void>;
}

function sleepOn(
  clock: Clock,
  delayMs: number,
  options: { signal?: AbortSignal | undefined },
): Promise<void> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = () => {
      timer.cancel();
      reject(signal?.reason);
    };
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** The machine's own monotonic clock. */
export function systemClock(): Clock {
  const clock: Clock = {
    now: () => performance.now(),
    after: (delayMs, callback) => {
      const handle = setTimeout(callback, delayMs);
      handle.unref();
      return { cancel: () => clearTimeout(handle) };
    },
    every: (periodMs, callback) => {
      const handle = setInterval(callback, periodMs);
      handle.unref();
      return { cancel: () => clearInterval(handle) };
    },
    sleep: (delayMs, options = {}) => sleepOn(clock, delayMs, options),
  };
  return clock;
}
