/**
 * How long own proposals took until they were committed: the newest samples, for status only. It
 * forgets what was never committed.
 */

import { groupLimits } from "../limits.ts";

export interface LatencySummary {
  readonly p50: number;
  readonly p99: number;
  /** Proposals committed since the group was opened. */
  readonly count: number;
}

export class CommitLatency {
  readonly #started = new Map<number, number>();
  readonly #samples: number[] = [];
  #count = 0;

  proposed(index: number, now: number): void {
    if (this.#started.size >= groupLimits.latencySamples) return;
    this.#started.set(index, now);
  }

  committed(through: number, options: { now: number; report?: (ms: number) => void }): void {
    const { now, report } = options;
    for (const [index, start] of this.#started) {
      if (index > through) break;
      this.#started.delete(index);
      this.#samples[this.#count % groupLimits.latencySamples] = now - start;
      this.#count += 1;
      report?.(now - start);
    }
  }

  /** Leadership was lost: what is under way may never be committed by this node. */
  reset(): void {
    this.#started.clear();
  }

  summary(): LatencySummary {
    const sorted = [...this.#samples].sort((a, b) => a - b);
    const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? 0;
    return { p50: at(0.5), p99: at(0.99), count: this.#count };
  }
}
