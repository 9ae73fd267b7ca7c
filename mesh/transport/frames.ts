/**
 * Frames on the streams between two nodes: u32le length of the rest, u8 type, payload. libp2p
 * streams have no message boundaries, so a frame may arrive in any pieces.
 */

import type { Uint8ArrayList } from "uint8arraylist";

export const frameType = {
  hello: 0,
  peers: 1,
  credit: 2,
  group: 16,
} as const;

export const FRAME_HEAD_BYTES = 5;

/** The peer does not speak the protocol; the link is given up. */
export class ProtocolError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ProtocolError";
  }
}

export function frameHead(type: number, payloadBytes: number): Uint8Array {
  const head = new Uint8Array(FRAME_HEAD_BYTES);
  new DataView(head.buffer).setUint32(0, payloadBytes + 1, true);
  head[4] = type;
  return head;
}

export interface FrameParserOptions {
  readonly frameBytesMax: number;
  /** The payload is the callee's own; it does not share memory with other frames. */
  readonly onFrame: (type: number, payload: Uint8Array) => void;
}

export class FrameParser {
  readonly #options: FrameParserOptions;
  readonly #head = new Uint8Array(FRAME_HEAD_BYTES);
  #headBytes = 0;
  #payload: Uint8Array | null = null;
  #payloadBytes = 0;

  constructor(options: FrameParserOptions) {
    this.#options = options;
  }

  /** Throws ProtocolError; after that the parser must not be used any more. */
  push(data: Uint8Array | Uint8ArrayList): void {
    if (data instanceof Uint8Array) {
      this.#pushChunk(data);
      return;
    }
    for (const chunk of data) this.#pushChunk(chunk);
  }

  #pushChunk(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#payload === null) {
        const part = chunk.subarray(at, at + FRAME_HEAD_BYTES - this.#headBytes);
        this.#head.set(part, this.#headBytes);
        this.#headBytes += part.length;
        at += part.length;
        if (this.#headBytes === FRAME_HEAD_BYTES) this.#begin();
      } else {
        const part = chunk.subarray(at, at + this.#payload.length - this.#payloadBytes);
        this.#payload.set(part, this.#payloadBytes);
        this.#payloadBytes += part.length;
        at += part.length;
        if (this.#payloadBytes === this.#payload.length) this.#finish();
      }
    }
  }

  #begin(): void {
    const length = new DataView(this.#head.buffer).getUint32(0, true);
    if (length === 0 || length > this.#options.frameBytesMax) {
      throw new ProtocolError(`a frame of ${length} bytes`);
    }
    // Not zeroed, as it is filled before anybody sees it; not a Buffer, whose `slice` is no copy.
    this.#payload = new Uint8Array(Buffer.allocUnsafeSlow(length - 1).buffer);
    this.#payloadBytes = 0;
    if (length === 1) this.#finish();
  }

  #finish(): void {
    const payload = this.#payload!;
    this.#payload = null;
    this.#headBytes = 0;
    this.#options.onFrame(this.#head[4]!, payload);
  }
}
