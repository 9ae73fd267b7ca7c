/**
 * Ethernet frames on their way to the guest of one VM copy: who waits to hear what became of which.
 * Bounded, so that a sender that does not slow down loses frames instead of filling memory.
 */

/** As many as the monitor itself lets wait for a guest that has no room. */
export const framesInFlightMax = 4096;

export class FramesInFlight {
  #waiting = new Map<string, (taken: boolean) => void>();

  /** Resolves to whether the guest took the frame; at once to false when too many are waiting. */
  add(source: number, seq: number): Promise<boolean> | null {
    const key = `${source}:${seq}`;
    if (this.#waiting.size >= framesInFlightMax || this.#waiting.has(key)) return null;
    return new Promise((resolve) => this.#waiting.set(key, resolve));
  }

  applied(result: { source: number; seq: number; accepted: boolean }): void {
    const key = `${result.source}:${result.seq}`;
    const resolve = this.#waiting.get(key);
    this.#waiting.delete(key);
    resolve?.(result.accepted);
  }

  /** The copy is gone: what was on its way is lost, as far as anybody can tell. */
  reset(): void {
    const lost = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const resolve of lost) resolve(false);
  }
}
