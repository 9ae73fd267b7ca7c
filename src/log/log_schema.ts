/**
 * The TypeScript reader of a recorded log's header and chunks. The format is described once, in
 * native/replay/log_schema.h; golden vectors in native/test/golden hold both languages to it. Reads
 * as if an enemy had written the bytes: each field has a range; what is outside refuses the whole.
 */

import { zstdDecompressSync } from "node:zlib";
import { decode } from "cbor-x";
import { ByteReader, LogFormatError } from "./_byte_reader.ts";
import { type PreemptBody, readPreempt } from "./_preempt.ts";
import { crc32c } from "./crc32c.ts";

export { LogFormatError } from "./_byte_reader.ts";

export const logVersion = 2;

export const logLimits = {
  headerBytesMax: 16 << 10,
  payloadBytesMax: 1 << 20,
  chunkBytesMax: (1 << 20) + 128,
  eventsMax: 65_536,
  inputBytesMax: 65_536,
  frameBytesMin: 14,
  frameBytesMax: 65_535,
  entropyBytesMax: 4096,
  mtuMin: 68,
  mtuMax: 65_521,
  disksMax: 8,
  diskBytesMax: 4n << 40n,
  sectorBytes: 512n,
  counterMax: 1n << 63n,
  u64Max: (1n << 64n) - 1n,
  chunkNumberMax: 1n << 48n,
  devicesMax: 32,
  pagesMax: 64,
  bucketCount: 64,
  gfnMax: 1n << 24n,
  memoryBytesMin: 64 * 2 ** 20,
  memoryBytesMax: 64 * 2 ** 30,
  memoryBytesUnit: 2 ** 20,
  cmdlineBytesMax: 2047,
  rateShift: 20n,
  rateUnitsMax: 1n << 22n,
  registerCount: 103,
} as const;

export interface LogPosition {
  readonly steps: bigint;
  readonly userSteps: bigint;
}

/** What a chunk says about itself without its events being read. */
export interface ChunkHead {
  readonly number: number;
  readonly first: LogPosition;
  readonly last: LogPosition;
  /** Written by the guest to its console up to `last`. */
  readonly consoleBytes: number;
  /** Ethernet frames sent by the guest up to `last`. */
  readonly frames: number;
  readonly eventCount: number;
}

export const logEndReasons = [
  "poweroff",
  "reboot",
  "triple_fault",
  "unsupported",
  "stopped",
  "timeout",
  "signal",
] as const;

export const logControlActions = ["stop", "power_button"] as const;

export type LogEventBody =
  | { readonly kind: "clock"; readonly ns: bigint; readonly nsPerStep: bigint }
  | {
      readonly kind: "input";
      readonly source: bigint;
      readonly seq: bigint;
      readonly bytes: Buffer;
    }
  | { readonly kind: "control"; readonly action: (typeof logControlActions)[number] }
  | {
      readonly kind: "frame";
      readonly source: bigint;
      readonly seq: bigint;
      readonly bytes: Buffer;
    }
  | { readonly kind: "entropy"; readonly bytes: Buffer }
  | PreemptBody
  | {
      readonly kind: "digest";
      readonly registers: readonly bigint[];
      readonly devices: readonly { readonly name: string; readonly hash: bigint }[];
      readonly memorySum: bigint;
      readonly changedPages: number;
      readonly pages: readonly { readonly gfn: number; readonly hash: number }[];
      readonly buckets: readonly number[];
    }
  | { readonly kind: "end"; readonly reason: (typeof logEndReasons)[number] };

export type LogEvent = LogEventBody & { readonly at: LogPosition };

export interface Chunk extends ChunkHead {
  readonly events: readonly LogEvent[];
}

interface Envelope {
  readonly head: ChunkHead;
  readonly compressed: boolean;
  readonly payloadBytes: number;
  readonly payload: Buffer;
}

/** Reads what a chunk says about itself, after checking its sum. */
export function decodeChunkHead(bytes: Uint8Array): ChunkHead {
  return readEnvelope(bytes).head;
}

/** Reads a whole chunk. */
export function decodeChunk(bytes: Uint8Array): Chunk {
  const { head, compressed, payloadBytes, payload } = readEnvelope(bytes);
  const plain = compressed ? decompress(payload, payloadBytes) : payload;
  if (plain.length !== payloadBytes) throw new LogFormatError("payload: has another length");
  const reader = new ByteReader(plain);
  const events: LogEvent[] = [];
  const state: EventState = { at: head.first, clockNs: 0n, clockRate: null };
  for (let index = 0; index < head.eventCount; index += 1) {
    const event = readEvent(reader, state);
    if (comparePositions(event.at, head.last) > 0) reader.fail("event", "is past the chunk's last");
    if (event.kind === "end" && index + 1 !== head.eventCount) {
      reader.fail("end", "is followed by more");
    }
    events.push(event);
  }
  if (reader.left !== 0) reader.fail("payload", "has bytes after its events");
  return { ...head, events };
}

export function comparePositions(a: LogPosition, b: LogPosition): number {
  if (a.steps !== b.steps) return a.steps < b.steps ? -1 : 1;
  if (a.userSteps !== b.userSteps) return a.userSteps < b.userSteps ? -1 : 1;
  return 0;
}

function readEnvelope(given: Uint8Array): Envelope {
  const bytes = Buffer.from(given.buffer, given.byteOffset, given.byteLength);
  if (bytes.length > logLimits.chunkBytesMax) throw new LogFormatError("chunk: is too large");
  if (bytes.length < 4) throw new LogFormatError("chunk: is too short");
  const body = bytes.subarray(0, -4);
  if (bytes.readUInt32LE(body.length) !== crc32c(body)) {
    throw new LogFormatError("chunk: its check sum is wrong");
  }
  const reader = new ByteReader(body);
  const version = reader.u8("log_version");
  if (version !== logVersion) throw new LogFormatError(`log_version: ${version} is not known`);
  const flags = reader.u8("flags", 1);
  const number = reader.small("number", logLimits.chunkNumberMax);
  const first = {
    steps: reader.varint("first.steps", { most: logLimits.counterMax }),
    userSteps: reader.varint("first.user_steps", { most: logLimits.counterMax }),
  };
  const stepCount = reader.varint("last.steps", { most: logLimits.counterMax });
  const last = {
    steps: first.steps + stepCount,
    userSteps: reader.varint("last.user_steps", { most: logLimits.counterMax }),
  };
  if (last.steps > logLimits.counterMax) reader.fail("last.steps", "is out of range");
  if (comparePositions(last, first) < 0) reader.fail("last", "is before first");
  const consoleBytes = reader.small("console_bytes", BigInt(Number.MAX_SAFE_INTEGER));
  const frames = reader.small("frames", BigInt(Number.MAX_SAFE_INTEGER));
  const eventCount = reader.small("event_count", BigInt(logLimits.eventsMax));
  const payloadBytes = reader.small("payload_bytes", BigInt(logLimits.payloadBytesMax));
  return {
    head: { number, first, last, consoleBytes, frames, eventCount },
    compressed: (flags & 1) !== 0,
    payloadBytes,
    payload: reader.bytes("payload", reader.left),
  };
}

function decompress(payload: Buffer, bytes: number): Buffer {
  try {
    return zstdDecompressSync(payload, { maxOutputLength: Math.max(1, bytes) });
  } catch {
    throw new LogFormatError("payload: cannot be decompressed");
  }
}

interface EventState {
  at: LogPosition;
  clockNs: bigint;
  clockRate: bigint | null;
}

const samePosition = 0x10;
const hasUserSteps = 0x20;
const hasRate = 0x40;

function readEvent(reader: ByteReader, state: EventState): LogEvent {
  const lead = reader.u8("event", 0x7f);
  if ((lead & samePosition) === 0) {
    const steps = reader.varint("event.steps", { most: logLimits.counterMax });
    const userSteps =
      (lead & hasUserSteps) === 0
        ? 0n
        : reader.varint("event.user_steps", { least: 1n, most: logLimits.counterMax });
    const at = { steps: state.at.steps + steps, userSteps };
    if (comparePositions(at, state.at) <= 0) reader.fail("event", "is not after the one before");
    state.at = at;
  } else if ((lead & hasUserSteps) !== 0) {
    reader.fail("event", "has contradicting flags");
  }
  const kind = lead & 0x0f;
  if (kind !== 1 && (lead & hasRate) !== 0) reader.fail("event", "has a rate but is no clock");
  switch (kind) {
    case 1:
      return { at: state.at, ...readClock(reader, state, (lead & hasRate) !== 0) };
    case 2:
      return { at: state.at, ...readInput(reader) };
    case 3: {
      const action = logControlActions[reader.u8("control") - 1];
      return {
        at: state.at,
        kind: "control",
        action: action ?? reader.fail("control", "is not known"),
      };
    }
    case 4:
      return { at: state.at, ...readDigest(reader) };
    case 5: {
      const reason = logEndReasons[reader.u8("end") - 1];
      return { at: state.at, kind: "end", reason: reason ?? reader.fail("end", "is not known") };
    }
    case 6:
      return { at: state.at, ...readPreempt(reader) };
    case 7:
      return { at: state.at, ...readFrame(reader) };
    case 8: {
      const length = reader.varint("entropy.length", {
        least: 1n,
        most: BigInt(logLimits.entropyBytesMax),
      });
      return {
        at: state.at,
        kind: "entropy",
        bytes: reader.bytes("entropy.bytes", Number(length)),
      };
    }
    default:
      return reader.fail("event", `is of unknown kind ${kind}`);
  }
}

function readClock(reader: ByteReader, state: EventState, rateGiven: boolean): LogEventBody {
  state.clockNs += reader.varint("clock.ns", { most: logLimits.counterMax });
  if (state.clockNs > logLimits.counterMax) reader.fail("clock.ns", "is out of range");
  if (rateGiven) {
    const units = reader.varint("clock.ns_per_step", { most: logLimits.rateUnitsMax });
    state.clockRate = units << logLimits.rateShift;
  }
  const rate = state.clockRate ?? reader.fail("clock.ns_per_step", "is missing");
  return { kind: "clock", ns: state.clockNs, nsPerStep: rate };
}

function readInput(reader: ByteReader): LogEventBody {
  const source = reader.varint("input.source", { most: logLimits.u64Max });
  const seq = reader.varint("input.seq", { most: logLimits.counterMax });
  const length = reader.small("input.length", BigInt(logLimits.inputBytesMax));
  return { kind: "input", source, seq, bytes: reader.bytes("input.bytes", length) };
}

function readFrame(reader: ByteReader): LogEventBody {
  const source = reader.varint("frame.source", { most: logLimits.u64Max });
  const seq = reader.varint("frame.seq", { most: logLimits.counterMax });
  const length = reader.varint("frame.length", {
    least: BigInt(logLimits.frameBytesMin),
    most: BigInt(logLimits.frameBytesMax),
  });
  return { kind: "frame", source, seq, bytes: reader.bytes("frame.bytes", Number(length)) };
}

function readDigest(reader: ByteReader): LogEventBody {
  const registers = Array.from({ length: logLimits.registerCount }, () =>
    reader.varint("digest.register", { most: logLimits.u64Max }),
  );
  const deviceCount = reader.small("digest.devices", BigInt(logLimits.devicesMax));
  const devices = Array.from({ length: deviceCount }, () => readDevice(reader));
  const memorySum = reader.u64("digest.memory_sum");
  const changedPages = reader.small("digest.changed_pages", logLimits.gfnMax);
  if (changedPages > logLimits.pagesMax) {
    const buckets = Array.from({ length: logLimits.bucketCount }, () =>
      reader.u32("digest.bucket"),
    );
    return { kind: "digest", registers, devices, memorySum, changedPages, pages: [], buckets };
  }
  let next = 0n;
  const pages = Array.from({ length: changedPages }, () => {
    const gfn = next + reader.varint("digest.gfn", { most: logLimits.gfnMax });
    if (gfn > logLimits.gfnMax) reader.fail("digest.gfn", "is out of range");
    next = gfn + 1n;
    return { gfn: Number(gfn), hash: reader.u32("digest.page_hash") };
  });
  return { kind: "digest", registers, devices, memorySum, changedPages, pages, buckets: [] };
}

function readDevice(reader: ByteReader): { readonly name: string; readonly hash: bigint } {
  const length = reader.u8("device.name", 32);
  const name = reader.bytes("device.name", length).toString("latin1");
  if (!/^[a-z0-9_]{1,32}$/.test(name)) reader.fail("device.name", "is malformed");
  return { name, hash: reader.u64("device.hash") };
}

/** The header of a log: what makes two machines the same machine. */
export interface LogHeader {
  readonly cpuModel: string;
  readonly memoryBytes: number;
  readonly cmdline: string;
  readonly startRealtimeNs: bigint;
  readonly rngSeed: Buffer;
  readonly kernelSha256: Buffer;
  readonly initrdSha256: Buffer | null;
  readonly initialNsPerStep: bigint;
  readonly rng: boolean;
  readonly net: LogNetwork | null;
  readonly disks: readonly LogDisk[];
}

export interface LogDisk {
  readonly content: Buffer;
  readonly sizeBytes: bigint;
  readonly readOnly: boolean;
}

export interface LogNetwork {
  readonly mac: Buffer;
  readonly mtu: number;
}

const headerKeys = [
  "cmdline",
  "cpu_model",
  "disks",
  "initial_ns_per_step",
  "initrd_sha256",
  "kernel_sha256",
  "log_version",
  "memory_bytes",
  "net",
  "rng",
  "rng_seed",
  "start_realtime_ns",
].join();

/** Reads a header; refuses one with a key too many, too few or out of range. */
export function decodeHeader(bytes: Uint8Array): LogHeader {
  if (bytes.length > logLimits.headerBytesMax) throw new LogFormatError("header: is too large");
  let map: Record<string, unknown>;
  try {
    map = decode(bytes) as Record<string, unknown>;
  } catch {
    throw new LogFormatError("header: is not valid CBOR");
  }
  if (typeof map !== "object" || map === null || Object.keys(map).sort().join() !== headerKeys) {
    throw new LogFormatError("header: has other fields than expected");
  }
  if (map["log_version"] !== logVersion) throw new LogFormatError("log_version: is not known");
  const memoryBytes = Number(integer(map, "memory_bytes"));
  const { memoryBytesMin, memoryBytesMax, memoryBytesUnit } = logLimits;
  if (
    memoryBytes < memoryBytesMin ||
    memoryBytes > memoryBytesMax ||
    memoryBytes % memoryBytesUnit !== 0
  ) {
    throw new LogFormatError("memory_bytes: is out of range");
  }
  const cmdline = text(map, "cmdline");
  if (Buffer.byteLength(cmdline) > logLimits.cmdlineBytesMax || cmdline.includes("\0")) {
    throw new LogFormatError("cmdline: is too long or holds a NUL");
  }
  if (text(map, "cpu_model") !== "mesh-v1") throw new LogFormatError("cpu_model: is not known");
  return {
    cpuModel: "mesh-v1",
    memoryBytes,
    cmdline,
    startRealtimeNs: integer(map, "start_realtime_ns"),
    rngSeed: hash(map, "rng_seed"),
    kernelSha256: hash(map, "kernel_sha256"),
    initrdSha256: map["initrd_sha256"] === null ? null : hash(map, "initrd_sha256"),
    initialNsPerStep: integer(map, "initial_ns_per_step"),
    rng: boolean(map, "rng"),
    net: network(map["net"]),
    disks: disks(map["disks"]),
  };
}

function disks(value: unknown): LogDisk[] {
  if (!Array.isArray(value) || value.length > logLimits.disksMax) {
    throw new LogFormatError("disks: is not a list, or too long");
  }
  return value.map((item: unknown) => {
    const fields = ["content", "read_only", "size_bytes"].join();
    if (
      typeof item !== "object" ||
      Object.keys(item ?? {})
        .sort()
        .join() !== fields
    ) {
      throw new LogFormatError("disks: has other fields than expected");
    }
    const map = item as Record<string, unknown>;
    const sizeBytes = integer(map, "size_bytes");
    const { diskBytesMax, sectorBytes } = logLimits;
    if (sizeBytes === 0n || sizeBytes > diskBytesMax || sizeBytes % sectorBytes !== 0n) {
      throw new LogFormatError("disks.size_bytes: is out of range");
    }
    return { content: hash(map, "content"), sizeBytes, readOnly: boolean(map, "read_only") };
  });
}

function boolean(map: Record<string, unknown>, key: string): boolean {
  const value = map[key];
  if (typeof value !== "boolean") throw new LogFormatError(`${key}: is not true or false`);
  return value;
}

function network(value: unknown): LogNetwork | null {
  if (value === null) return null;
  if (
    typeof value !== "object" ||
    Object.keys(value ?? {})
      .sort()
      .join() !== "mac,mtu"
  ) {
    throw new LogFormatError("net: has other fields than expected");
  }
  const { mac, mtu } = value as { readonly mac: unknown; readonly mtu: unknown };
  const oneCard =
    mac instanceof Uint8Array &&
    mac.length === 6 &&
    (Number(mac[0]) & 1) === 0 &&
    mac.some((byte) => byte !== 0);
  if (!oneCard) throw new LogFormatError("net.mac: is not the address of one card");
  const whole = typeof mtu === "number" && Number.isInteger(mtu);
  if (!whole || mtu < logLimits.mtuMin || mtu > logLimits.mtuMax) {
    throw new LogFormatError("net.mtu: is out of range");
  }
  return { mac: Buffer.from(mac), mtu };
}

function integer(map: Record<string, unknown>, key: string): bigint {
  const value = map[key];
  const whole =
    typeof value === "bigint" || (typeof value === "number" && Number.isSafeInteger(value));
  if (!whole) throw new LogFormatError(`${key}: is not an integer`);
  const exact = BigInt(value as bigint | number);
  if (exact < 0n || exact >= logLimits.counterMax) throw new LogFormatError(`${key}: out of range`);
  return exact;
}

function text(map: Record<string, unknown>, key: string): string {
  const value = map[key];
  if (typeof value !== "string") throw new LogFormatError(`${key}: is not text`);
  return value;
}

function hash(map: Record<string, unknown>, key: string): Buffer {
  const value = map[key];
  if (!(value instanceof Uint8Array) || value.length !== 32) {
    throw new LogFormatError(`${key}: is not 32 bytes`);
  }
  return Buffer.from(value);
}
