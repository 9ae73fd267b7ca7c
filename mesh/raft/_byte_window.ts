/**
 * Bytes of entries that are under way somewhere (unanswered, uncommitted, unapplied), released in
 * log order. It owns the count behind a limit, not the entries.
 */

interface Span {
  readonly lastIndex: number;
  readonly bytes: number;
}

export class ByteWindow {
  #spans: Span[] = [];
  /** Spans before it are released; they are dropped in bulk. */
  #head = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get count(): number {
    return this.#spans.length - this.#head;
  }

  /** `lastIndex` rises from call to call. */
  add(lastIndex: number, bytes: number): void {
    this.#spans.push({ lastIndex, bytes });
    this.#bytes += bytes;
  }

  releaseTo(index: number): void {
    while (this.#head < this.#spans.length && this.#spans[this.#head]!.lastIndex <= index) {
      this.#bytes -= this.#spans[this.#head]!.bytes;
      this.#head += 1;
    }
    if (this.#head === this.#spans.length) this.clear();
    else if (this.#head > 64 && this.#head * 2 > this.#spans.length) {
      this.#spans.splice(0, this.#head);
      this.#head = 0;
    }
  }

  clear(): void {
    if (this.#spans.length > 0) this.#spans = [];
    this.#head = 0;
    this.#bytes = 0;
  }
}
