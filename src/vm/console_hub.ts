/**
 * The committed console output of one VM copy, by absolute byte offset since power on. Readers ask
 * by offset, so that whoever moves from one copy to another sees each byte once. Keeps the newest
 * part in memory (a restarted copy makes the rest again from the log). Must never be given a byte
 * that is not committed.
 */
import { Waiters } from "../waiters.ts";

/** What is kept for readers that come later; older output is gone from this copy. */
export const consoleBytesMax = 4 * 1024 * 1024;

/** One read returns at most this much, so that a slow reader holds no large buffers. */
export const consoleReadBytesMax = 64 * 1024;

export interface ConsoleSlice {
  /** Of the first byte returned: more than asked for when older output is gone. */
  readonly offset: number;
  readonly bytes: Buffer;
  /** Offset after the newest byte this copy has. */
  readonly end: number;
  /** The VM has ended and `end` is final. */
  readonly closed: boolean;
}

export class ConsoleHub {
  #pieces: Buffer[] = [];
  #start = 0;
  #end = 0;
  #closed = false;
  #mismatches = 0;
  readonly #waiters = new Waiters();
  readonly #bytesMax: number;

  constructor(options: { readonly bytesMax?: number } = {}) {
    this.#bytesMax = options.bytesMax ?? consoleBytesMax;
  }

  get start(): number {
    return this.#start;
  }

  get end(): number {
    return this.#end;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** How often a rebuilt copy said something else than before: a sign of divergence. */
  get mismatches(): number {
    return this.#mismatches;
  }

  /** Adds output that starts at `offset`; what is known already is compared and dropped. */
  append(offset: number, bytes: Buffer): void {
    if (offset > this.#end) throw new RangeError(`console output jumps to offset ${offset}`);
    const known = this.#end - offset;
    if (known > 0) this.#compare(offset, bytes.subarray(0, known));
    if (known >= bytes.length) return;
    const fresh = Buffer.from(bytes.subarray(known));
    this.#pieces.push(fresh);
    this.#end += fresh.length;
    this.#trim();
    this.#waiters.wake();
  }

  /** No more output will come: the VM ended. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiters.wake();
  }

  /** What is there from `offset` on, without waiting. */
  read(offset: number, bytesMax = consoleReadBytesMax): ConsoleSlice {
    const from = Math.min(Math.max(offset, this.#start), this.#end);
    const parts: Buffer[] = [];
    let wanted = Math.min(bytesMax, this.#end - from);
    let at = this.#start;
    for (const piece of this.#pieces) {
      if (wanted === 0) break;
      if (at + piece.length > from) {
        const begin = Math.max(0, from - at);
        const part = piece.subarray(begin, begin + wanted);
        parts.push(part);
        wanted -= part.length;
      }
      at += piece.length;
    }
    return { offset: from, bytes: Buffer.concat(parts), end: this.#end, closed: this.#closed };
  }

  /** As `read`, but waits until there is something past `offset`, the end, or the signal. */
  async readWaiting(
    offset: number,
    options: { readonly signal: AbortSignal },
  ): Promise<ConsoleSlice> {
    while (this.#end <= offset && !this.#closed && !options.signal.aborted) {
      await this.#waiters.wait(options.signal);
    }
    return this.read(offset);
  }

  #compare(offset: number, bytes: Buffer): void {
    const from = Math.max(offset, this.#start);
    const again = bytes.subarray(from - offset);
    if (again.length === 0) return;
    if (!this.read(from, again.length).bytes.equals(again)) this.#mismatches += 1;
  }

  #trim(): void {
    while (this.#end - this.#start > this.#bytesMax) {
      const first = this.#pieces[0];
      if (first === undefined) return;
      const excess = this.#end - this.#start - this.#bytesMax;
      if (first.length <= excess) this.#pieces.shift();
      else this.#pieces[0] = first.subarray(excess);
      this.#start += Math.min(first.length, excess);
    }
  }
}
