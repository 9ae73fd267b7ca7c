/**
 * The sending half of a bulk stream: frames leave while the receiver's window has room, wait in a
 * bounded queue otherwise, and are refused beyond that. The transport's own back-pressure is not
 * used: it ends at the receiver's socket and says nothing about what the receiver has worked off.
 */

import { transportLimits } from "../limits.ts";
import { ProtocolError } from "./frames.ts";

export class BulkWindow {
  readonly #send: (payload: Uint8Array) => void;
  readonly #queue: Uint8Array[] = [];
  #queueBytes = 0;
  #inFlightBytes = 0;

  constructor(send: (payload: Uint8Array) => void) {
    this.#send = send;
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }

  get queueBytes(): number {
    return this.#queueBytes;
  }

  /** False if the queue is full; the frame is dropped then. */
  push(payload: Uint8Array): boolean {
    if (this.#queue.length === 0 && this.#hasRoom(payload)) {
      this.#release(payload);
      return true;
    }
    if (this.#queueBytes + payload.length > transportLimits.bulkQueueBytesMax) return false;
    this.#queue.push(payload);
    this.#queueBytes += payload.length;
    return true;
  }

  /** The receiver has worked off `bytes`. */
  credit(bytes: number): void {
    if (bytes > this.#inFlightBytes) {
      throw new ProtocolError(`credit for ${bytes} of ${this.#inFlightBytes} bytes`);
    }
    this.#inFlightBytes -= bytes;
    let sent = 0;
    for (const payload of this.#queue) {
      if (!this.#hasRoom(payload)) break;
      sent += 1;
      this.#queueBytes -= payload.length;
      this.#release(payload);
    }
    this.#queue.splice(0, sent);
  }

  // A frame larger than the window may go alone.
  #hasRoom(payload: Uint8Array): boolean {
    const { bulkCreditBytes } = transportLimits;
    return this.#inFlightBytes === 0 || this.#inFlightBytes + payload.length <= bulkCreditBytes;
  }

  #release(payload: Uint8Array): void {
    this.#inFlightBytes += payload.length;
    this.#send(payload);
  }
}

/**
 * The receiving half: collects what was worked off, and gives it back when it is a good part of the
 * window, or soon: a frame as large as the window waits for all of it.
 */
export class CreditReturn {
  readonly #give: (bytes: number) => void;
  #heldBytes = 0;
  #owedBytes = 0;
  #isDue = false;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(give: (bytes: number) => void) {
    this.#give = give;
  }

  /** A frame came in; the returned function is to be called once when it was worked off. */
  take(bytes: number): () => void {
    this.#heldBytes += bytes;
    const { bulkCreditBytes, bulkFrameBytesMax } = transportLimits;
    if (this.#heldBytes + this.#owedBytes > bulkCreditBytes + bulkFrameBytesMax) {
      throw new ProtocolError(`${this.#heldBytes} bytes sent without credit`);
    }
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.#heldBytes -= bytes;
      this.#owedBytes += bytes;
      this.#schedule();
    };
  }

  #schedule(): void {
    if (this.#isDue || this.#closed) return;
    const { bulkCreditStepBytes, bulkCreditStepMs } = transportLimits;
    if (this.#owedBytes >= bulkCreditStepBytes) {
      this.#isDue = true;
      setImmediate(() => this.#flush());
    } else {
      this.#timer ??= setTimeout(() => this.#flush(), bulkCreditStepMs).unref();
    }
  }

  #flush(): void {
    this.#isDue = false;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#closed || this.#owedBytes === 0) return;
    const bytes = this.#owedBytes;
    this.#owedBytes = 0;
    this.#give(bytes);
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
