/**
 * A libp2p stream that carries frames. It owns the stream's listeners: whatever goes wrong in them
 * ends this stream and is reported once, and never reaches the event loop as an uncaught error.
 */

import type { Stream, StreamMessageEvent } from "@libp2p/interface";
import { Uint8ArrayList } from "uint8arraylist";
import { transportLimits } from "../limits.ts";
import { FRAME_HEAD_BYTES, FrameParser, frameHead, ProtocolError } from "./frames.ts";

/** Up to here one piece of memory is cheaper for all layers below than a copy saved. */
const COPIED_BYTES_MAX = 8 * 1024;

export interface FramedStreamHandlers {
  onFrame(type: number, payload: Uint8Array): void;
  /** Once; `fault` says what the peer did wrong, and is null when the stream just ended. */
  onClose(fault: string | null): void;
}

export class FramedStream {
  readonly #stream: Stream;
  readonly #parser: FrameParser;
  #handlers: FramedStreamHandlers;
  #closed = false;

  /** Must be called in the turn in which the stream was given out, or bytes are missed. */
  constructor(stream: Stream, frameBytesMax: number, handlers: FramedStreamHandlers) {
    this.#stream = stream;
    this.#handlers = handlers;
    stream.maxWriteBufferLength = transportLimits.streamWriteBufferBytesMax;
    this.#parser = new FrameParser({
      frameBytesMax,
      onFrame: (type, payload) => {
        if (!this.#closed) this.#handlers.onFrame(type, payload);
      },
    });
    stream.addEventListener("message", (event) => this.#onMessage(event));
    // The far end never ends its half alone: any end is the end of the link.
    stream.addEventListener("close", () => this.#end(null));
    stream.addEventListener("remoteCloseWrite", () => this.#end(null));
  }

  set handlers(handlers: FramedStreamHandlers) {
    this.#handlers = handlers;
  }

  get unsentBytes(): number {
    return this.#stream.writeBufferLength;
  }

  #onMessage(event: StreamMessageEvent): void {
    if (this.#closed) return;
    try {
      this.#parser.push(event.data);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#end(error instanceof ProtocolError ? why : `cannot handle a frame: ${why}`);
    }
  }

  /** False if the stream is closed. */
  send(type: number, payload: Uint8Array): boolean {
    if (this.#closed) return false;
    try {
      this.#stream.send(framed(type, payload));
      return true;
    } catch {
      // It closed under us, or its buffer is over the limit; the close event may be late.
      this.#end(null);
      return false;
    }
  }

  #end(fault: string | null): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#abort(fault ?? "closed");
    this.#handlers.onClose(fault);
  }

  #abort(why: string): void {
    try {
      this.#stream.abort(new Error(why));
    } catch {
      // The stream was gone already.
    }
  }

  /** Ends the stream without a report. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#abort("link closed");
  }
}

function framed(type: number, payload: Uint8Array): Uint8Array | Uint8ArrayList {
  const head = frameHead(type, payload.length);
  if (payload.length > COPIED_BYTES_MAX) return new Uint8ArrayList(head, payload);
  const frame = new Uint8Array(FRAME_HEAD_BYTES + payload.length);
  frame.set(head);
  frame.set(payload, FRAME_HEAD_BYTES);
  return frame;
}
