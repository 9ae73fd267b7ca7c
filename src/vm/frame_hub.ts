/**
 * The committed Ethernet frames that the guest of one VM copy sent, by their number since power on.
 * Readers ask by number, so that whoever moves from one copy to another sees each frame once. Keeps
 * the newest in a bounded ring: frames may be lost, as on any network. Must never be given a frame
 * that is not committed.
 */
import { Waiters } from "../waiters.ts";

/** What is kept for readers that are slow or come later. */
export const frameHubLimits = { bytesMax: 8 * 1024 * 1024, framesMax: 8192 } as const;

/** One read returns at most so many frames. */
export const frameReadMax = 256;

export interface FrameSlice {
  /** Of the first frame returned: more than asked for when older ones are gone. */
  readonly number: number;
  readonly frames: readonly Buffer[];
  /** The number after the newest frame this copy has. */
  readonly end: number;
  /** The VM has ended and `end` is final. */
  readonly closed: boolean;
}

export class FrameHub {
  #frames: Buffer[] = [];
  #end = 0;
  #bytes = 0;
  #closed = false;
  readonly #waiters = new Waiters();
  readonly #limits: { readonly bytesMax: number; readonly framesMax: number };

  constructor(limits: { readonly bytesMax: number; readonly framesMax: number } = frameHubLimits) {
    this.#limits = limits;
  }

  get start(): number {
    return this.#end - this.#frames.length;
  }

  get end(): number {
    return this.#end;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Adds frame `number`; one that is known already, said again by a rebuilt copy, is dropped. */
  append(number: number, frame: Buffer): void {
    if (number < this.#end) return;
    if (number > this.#end) {
      // A copy that was restored from a checkpoint begins later: what lies between is gone.
      this.#frames = [];
      this.#bytes = 0;
    }
    this.#frames.push(Buffer.from(frame));
    this.#bytes += frame.length;
    this.#end = number + 1;
    const { bytesMax, framesMax } = this.#limits;
    let excess = 0;
    while (this.#bytes > bytesMax || this.#frames.length - excess > framesMax) {
      this.#bytes -= this.#frames[excess]?.length ?? 0;
      excess += 1;
    }
    if (excess > 0) this.#frames.splice(0, excess);
    this.#waiters.wake();
  }

  /** No more frames will come: the VM ended. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiters.wake();
  }

  /** What is there from `number` on, without waiting. */
  read(number: number): FrameSlice {
    const from = Math.min(Math.max(number, this.start), this.#end);
    const first = from - this.start;
    const frames = this.#frames.slice(first, first + frameReadMax);
    return { number: from, frames, end: this.#end, closed: this.#closed };
  }

  /** As `read`, but waits until there is a frame from `number` on, the end, or the signal. */
  async readWaiting(
    number: number,
    options: { readonly signal: AbortSignal },
  ): Promise<FrameSlice> {
    while (this.#end <= number && !this.#closed && !options.signal.aborted) {
      await this.#waiters.wait(options.signal);
    }
    return this.read(number);
  }
}
