/**
 * The frames between the node and a `vmm serve` process: a length, a type byte and a payload, on a
 * stream socket. Owns their byte format and its limits; knows nothing of what a frame means. The
 * other end runs a hostile guest, so each frame is bounded before a byte of it is kept.
 */
import { Encoder } from "cbor-x";
import { logLimits } from "../log/log_schema.ts";

/** Larger than any chunk (64 KiB and one event) or output frame; a larger one is a fault. */
export const frameBytesMax = 8 * 1024 * 1024;

const lengthBytes = 4;
const headBytes = lengthBytes + 1;

export type FrameKind = "control" | "chunk" | "output" | "network";

const kindOfType: readonly FrameKind[] = ["control", "chunk", "output", "network"];

export interface Frame {
  readonly kind: FrameKind;
  readonly payload: Buffer;
}

/** The other end broke the rules of the stream: nothing after this can be trusted. */
export class FrameError extends Error {
  override name = "FrameError";
}

const cbor = new Encoder({
  useRecords: false,
  mapsAsObjects: true,
  variableMapSize: true,
  tagUint8Array: false,
});

/** One frame as one buffer. */
export function encodeFrame(kind: FrameKind, payload: Uint8Array): Buffer {
  if (payload.length + 1 > frameBytesMax) {
    throw new FrameError(`a ${kind} frame of ${payload.length} bytes is larger than allowed`);
  }
  const frame = Buffer.allocUnsafe(headBytes + payload.length);
  frame.writeUInt32LE(payload.length + 1, 0);
  frame[lengthBytes] = kindOfType.indexOf(kind);
  frame.set(payload, headBytes);
  return frame;
}

/** A control message. Integers beyond 32 bits must be given as bigint. */
export function encodeControl(message: Readonly<Record<string, unknown>>): Buffer {
  return encodeFrame("control", cbor.encode(message));
}

/** The map inside a control frame; 64-bit integers come back as numbers where they are exact. */
export function decodeControl(payload: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = cbor.decode(payload);
  } catch {
    throw new FrameError("a control frame is not valid CBOR");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new FrameError("a control frame is not a map");
  }
  return plainNumbers(value) as Record<string, unknown>;
}

/** Depth is bounded by the decoder's recursion on a frame that is itself bounded. */
function plainNumbers(value: unknown): unknown {
  if (typeof value === "bigint") {
    return value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= 0n ? Number(value) : value;
  }
  if (Array.isArray(value)) return value.map(plainNumbers);
  if (typeof value === "object" && value !== null && !(value instanceof Uint8Array)) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, plainNumbers(item)]),
    );
  }
  return value;
}

/** Absolute offset and bytes of a console output frame. */
export function decodeOutput(payload: Buffer): { readonly offset: number; readonly bytes: Buffer } {
  if (payload.length < 8) throw new FrameError("an output frame is too short");
  const offset = payload.readBigUInt64LE(0);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new FrameError("an output frame has an impossible offset");
  }
  return { offset: Number(offset), bytes: payload.subarray(8) };
}

/** Number since power on and bytes of an Ethernet frame that the guest sent. */
export function decodeNetwork(payload: Buffer): {
  readonly number: number;
  readonly bytes: Buffer;
} {
  if (payload.length < 8 + logLimits.frameBytesMin) {
    throw new FrameError("a network frame is too short");
  }
  if (payload.length > 8 + logLimits.frameBytesMax) {
    throw new FrameError("a network frame is too long");
  }
  const number = payload.readBigUInt64LE(0);
  if (number >= BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new FrameError("a network frame has an impossible number");
  }
  return { number: Number(number), bytes: payload.subarray(8) };
}

/** Cuts a byte stream into frames, whatever pieces it comes in. */
export class FrameDecoder {
  #pieces: Buffer[] = [];
  #bytes = 0;

  /** Frames completed by `piece`, in order. Throws FrameError once the stream is broken. */
  push(piece: Buffer): Frame[] {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    const frames: Frame[] = [];
    for (;;) {
      if (this.#bytes < headBytes) return frames;
      const head = this.#join(headBytes);
      const length = head.readUInt32LE(0);
      if (length < 1 || length > frameBytesMax) {
        throw new FrameError(`a frame claims ${length} bytes`);
      }
      const kind = kindOfType[head[lengthBytes] as number];
      if (kind === undefined) throw new FrameError(`a frame has type ${head[lengthBytes]}`);
      if (this.#bytes < lengthBytes + length) return frames;
      const whole = this.#join(lengthBytes + length);
      frames.push({ kind, payload: whole.subarray(headBytes, lengthBytes + length) });
      this.#drop(lengthBytes + length);
    }
  }

  /** The first piece, made long enough to hold `bytes`. */
  #join(bytes: number): Buffer {
    const first = this.#pieces[0] as Buffer;
    if (first.length >= bytes) return first;
    const joined = Buffer.concat(this.#pieces, this.#bytes);
    this.#pieces = [joined];
    return joined;
  }

  #drop(bytes: number): void {
    const first = this.#pieces[0] as Buffer;
    this.#bytes -= bytes;
    if (first.length === bytes) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(bytes);
  }
}
