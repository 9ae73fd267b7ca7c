/**
 * Judges the numbered lines of the default guest: each must come once, in order. Also remembers
 * when each came, for the length of a pause. Bytes may come in any pieces.
 */

/** The guest prints one numbered line in this time. */
export const lineMs = 1000;

/** A line without end is not kept beyond this. */
const lineBytesMax = 64 * 1024;

export interface Line {
  readonly number: number;
  readonly atMs: number;
}

export interface LineVerdict {
  readonly seen: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
}

export class LineChecker {
  readonly #now: () => number;
  readonly #lines: Line[] = [];
  readonly #numbers = new Set<number>();
  readonly #waiting = new Set<() => void>();
  #rest = "";
  #duplicated = 0;
  #outOfOrder = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  push(bytes: Buffer): void {
    const parts = (this.#rest + bytes.toString("latin1")).split("\n");
    this.#rest = (parts.pop() ?? "").slice(-lineBytesMax);
    for (const part of parts) {
      const match = /tick (\d+)/.exec(part);
      if (match?.[1] !== undefined) this.#line(Number(match[1]));
    }
  }

  get last(): Line | null {
    return this.#lines.at(-1) ?? null;
  }

  get lines(): readonly Line[] {
    return this.#lines;
  }

  verdict(): LineVerdict {
    let greatest = 0;
    for (const number of this.#numbers) greatest = Math.max(greatest, number);
    return {
      seen: this.#lines.length,
      lost: greatest - this.#numbers.size,
      duplicated: this.#duplicated,
      outOfOrder: this.#outOfOrder,
    };
  }

  /** The longest time between two lines that overlaps what came after `sinceMs`. */
  longestGapMs(sinceMs: number, untilMs = this.#now()): number {
    let longest = 0;
    for (let index = 1; index < this.#lines.length; index += 1) {
      const before = this.#lines[index - 1] as Line;
      const after = this.#lines[index] as Line;
      if (after.atMs >= sinceMs && before.atMs <= untilMs) {
        longest = Math.max(longest, after.atMs - before.atMs);
      }
    }
    return longest;
  }

  /** Resolves when `count` more lines than now have come; rejects after `timeoutMs`. */
  more(count: number, options: { readonly timeoutMs: number; readonly signal?: AbortSignal }) {
    const target = this.#lines.length + count;
    return new Promise<void>((resolve, reject) => {
      const finish = (error?: Error): void => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        if (error === undefined) resolve();
        else reject(error);
      };
      const look = (): void => {
        if (this.#lines.length >= target) finish();
      };
      const timer = setTimeout(
        () => finish(new Error(`no line came for ${options.timeoutMs / 1000} s`)),
        options.timeoutMs,
      );
      this.#waiting.add(look);
      options.signal?.addEventListener("abort", () => finish(new Error("it was interrupted")), {
        once: true,
      });
    });
  }

  #line(number: number): void {
    const last = this.last?.number ?? 0;
    if (this.#numbers.has(number)) this.#duplicated += 1;
    else if (number < last) this.#outOfOrder += 1;
    this.#numbers.add(number);
    this.#lines.push({ number, atMs: this.#now() });
    for (const look of [...this.#waiting]) look();
  }
}
