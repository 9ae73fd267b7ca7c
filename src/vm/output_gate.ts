/**
 * Holds back what a live copy says until the part of the log that made it say so is committed. The
 * one rule that makes a failover invisible is kept here: no byte passes whose chunk might still be
 * lost. Chunks are counted from 0 over the whole log of the VM.
 */

interface Held<T> {
  /** May pass once this many chunks are committed. */
  readonly chunkCount: number;
  readonly item: T;
}

export class OutputGate<T> {
  readonly #release: (item: T) => void;
  #held: Held<T>[] = [];
  #sentCount = 0;
  #committedCount = 0;

  constructor(release: (item: T) => void) {
    this.#release = release;
  }

  get sentCount(): number {
    return this.#sentCount;
  }

  get committedCount(): number {
    return this.#committedCount;
  }

  get heldCount(): number {
    return this.#held.length;
  }

  /** Starts over at a log of `chunkCount` chunks, all committed; what was held is dropped. */
  reset(chunkCount: number): void {
    this.#held = [];
    this.#sentCount = chunkCount;
    this.#committedCount = chunkCount;
  }

  /** The live copy handed over one more chunk; what it says from now on needs that chunk. */
  chunkSent(): void {
    this.#sentCount += 1;
  }

  /** Output that follows the chunks sent so far. */
  hold(item: T): void {
    this.#held.push({ chunkCount: this.#sentCount, item });
    this.#pass();
  }

  /** The first `chunkCount` chunks of the log are committed. */
  committed(chunkCount: number): void {
    this.#committedCount = Math.max(this.#committedCount, chunkCount);
    this.#pass();
  }

  /** Strictly in order: an item that waits keeps back those behind it. */
  #pass(): void {
    for (;;) {
      const first = this.#held[0];
      if (first === undefined || first.chunkCount > this.#committedCount) return;
      this.#held.shift();
      this.#release(first.item);
    }
  }
}
