import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { crc32c } from "./crc32c.ts";
import {
  decodeChunk,
  decodeChunkHead,
  decodeHeader,
  type LogEvent,
  LogFormatError,
} from "./log_schema.ts";

interface Vector {
  readonly name: string;
  readonly hex: string;
  readonly meaning: Record<string, unknown>;
}

interface Golden {
  readonly chunks: readonly Vector[];
  readonly refused: readonly Vector[];
  readonly header: Vector;
  readonly crc32c: readonly { readonly text: string; readonly crc: number }[];
  readonly register_names: readonly string[];
}

/** Numbers keep all their digits, as text. */
function exactNumbers(_key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" ? (context?.source ?? String(value)) : value;
}

const path = new URL("../../native/test/golden/log_v2.json", import.meta.url);
const golden = JSON.parse(readFileSync(path, "utf8"), exactNumbers as never) as Golden;

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

function position(at: LogEvent["at"]): Record<string, string> {
  return { steps: String(at.steps), user_steps: String(at.userSteps) };
}

/** An event as the vectors write it. */
function described(event: LogEvent): Record<string, unknown> {
  const head = { at: position(event.at), kind: event.kind };
  switch (event.kind) {
    case "clock":
      return { ...head, ns: String(event.ns), ns_per_step: String(event.nsPerStep) };
    case "preempt": {
      const { state } = event;
      const pages = event.pages.map(({ gfn, bytes }) => ({
        gfn: String(gfn),
        crc32c: hex(crc32c(bytes)),
      }));
      if (state === null) return { ...head, pages, last: false };
      const names = golden.register_names;
      const registers = {
        ...Object.fromEntries(state.registers.map((v, i) => [names[i] ?? "", hex(v)])),
        rip: hex(state.rip),
        rflags: hex(state.rflags),
        mxcsr: hex(state.mxcsr),
      };
      return { ...head, pages, last: true, registers };
    }
    case "entropy":
      return { ...head, bytes: event.bytes.toString("hex") };
    case "frame":
    case "input": {
      const { source, seq, bytes } = event;
      return { ...head, source: String(source), seq: String(seq), bytes: bytes.toString("hex") };
    }
    case "control":
      return { ...head, action: event.action };
    case "end":
      return { ...head, reason: event.reason };
    case "digest": {
      const names = golden.register_names;
      const pages = event.pages.map(({ gfn, hash }) => ({ gfn: String(gfn), hash: hex(hash) }));
      return {
        ...head,
        registers: Object.fromEntries(event.registers.map((v, i) => [names[i] ?? "", hex(v)])),
        devices: Object.fromEntries(event.devices.map((d) => [d.name, hex(d.hash)])),
        memory_sum: hex(event.memorySum),
        changed_pages: String(event.changedPages),
        ...(event.buckets.length > 0 ? { buckets: event.buckets.map(String) } : { pages }),
      };
    }
  }
}

test("golden chunks read as the native side wrote them", () => {
  for (const { name, hex: bytes, meaning } of golden.chunks) {
    const chunk = decodeChunk(Buffer.from(bytes, "hex"));
    assert.deepEqual(
      {
        number: String(chunk.number),
        first: position(chunk.first),
        last: position(chunk.last),
        console_bytes: String(chunk.consoleBytes),
        frames: String(chunk.frames),
        events: chunk.events.map(described),
      },
      meaning,
      name,
    );
  }
});

test("what the native side refuses is refused here", () => {
  for (const { name, hex: bytes } of golden.refused) {
    assert.throws(() => decodeChunk(Buffer.from(bytes, "hex")), LogFormatError, name);
  }
});

test("a flipped bit or a cut anywhere in a chunk is refused", () => {
  for (const { name, hex: text } of golden.chunks) {
    const bytes = Buffer.from(text, "hex");
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const flipped = Buffer.from(bytes);
      flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      assert.throws(() => decodeChunkHead(flipped), LogFormatError, `${name} bit ${bit}`);
    }
    for (let length = 0; length < bytes.length; length += 1) {
      assert.throws(() => decodeChunkHead(bytes.subarray(0, length)), LogFormatError);
    }
  }
});

test("the golden header, and headers with other fields", () => {
  const bytes = Buffer.from(golden.header.hex, "hex");
  const header = decodeHeader(bytes);
  const meaning = golden.header.meaning;
  assert.equal(header.cmdline, meaning["cmdline"]);
  assert.equal(String(header.startRealtimeNs), meaning["start_realtime_ns"]);
  assert.equal(String(header.memoryBytes), meaning["memory_bytes"]);
  assert.equal(header.rngSeed.toString("hex"), meaning["rng_seed"]);
  assert.equal(header.kernelSha256.toString("hex"), meaning["kernel_sha256"]);
  assert.equal(header.initrdSha256, null);
  assert.equal(String(header.initialNsPerStep), meaning["initial_ns_per_step"]);
  assert.equal(header.rng, meaning["rng"]);
  const net = { mac: header.net?.mac.toString("hex"), mtu: String(header.net?.mtu) };
  assert.deepEqual(net, meaning["net"]);
  const disks = header.disks.map((disk) => ({
    content: disk.content.toString("hex"),
    size_bytes: String(disk.sizeBytes),
    read_only: disk.readOnly,
  }));
  assert.deepEqual(disks, meaning["disks"]);
  assert.throws(() => decodeHeader(bytes.subarray(0, -1)), LogFormatError);
  assert.throws(() => decodeHeader(Buffer.from([0xa0])), LogFormatError);
});

test("the check sum is that of the native side", () => {
  for (const { text, crc } of golden.crc32c) {
    assert.equal(String(crc32c(Buffer.from(text))), crc);
  }
});
