import assert from "node:assert/strict";
import { test } from "node:test";
import { ConsoleHub } from "./console_hub.ts";
import {
  decodeControl,
  decodeOutput,
  encodeControl,
  encodeFrame,
  FrameDecoder,
  FrameError,
  frameBytesMax,
} from "./frame_codec.ts";
import { OutputGate } from "./output_gate.ts";
import { place } from "./placement.ts";
import { parseVmmMessage } from "./vmm_messages.ts";

test("frames survive any cut of the stream", () => {
  const stream = Buffer.concat([
    encodeControl({ kind: "live", steps: 2n ** 60n, chunk: 3 }),
    encodeFrame("chunk", Buffer.from("abc")),
    encodeFrame("output", Buffer.concat([Buffer.from([5, 0, 0, 0, 0, 0, 0, 0]), Buffer.from("x")])),
  ]);
  for (let size = 1; size <= stream.length; size += 1) {
    const decoder = new FrameDecoder();
    const frames = [];
    for (let at = 0; at < stream.length; at += size) {
      frames.push(...decoder.push(stream.subarray(at, at + size)));
    }
    assert.deepEqual(
      frames.map((frame) => frame.kind),
      ["control", "chunk", "output"],
    );
    assert.equal(frames[1]?.payload.toString(), "abc");
    assert.deepEqual(decodeControl(frames[0]!.payload)["steps"], 2n ** 60n);
    assert.deepEqual(decodeOutput(frames[2]!.payload), { offset: 5, bytes: Buffer.from("x") });
  }
});

test("a frame that is too long, of unknown type or malformed is refused", () => {
  const tooLong = Buffer.alloc(5);
  tooLong.writeUInt32LE(frameBytesMax + 1);
  assert.throws(() => new FrameDecoder().push(tooLong), FrameError);
  assert.throws(() => new FrameDecoder().push(Buffer.from([1, 0, 0, 0, 9])), FrameError);
  assert.throws(() => decodeOutput(Buffer.alloc(7)), FrameError);
  const control = (message: Record<string, unknown>): Buffer => encodeControl(message).subarray(5);
  assert.throws(() => parseVmmMessage(Buffer.from([0xff, 1])), FrameError);
  assert.throws(() => parseVmmMessage(control({ kind: "constructor" })), FrameError);
  assert.throws(() => parseVmmMessage(control({ kind: "live", steps: -1, chunk: 0 })), FrameError);
});

test("the console is read by offset, and repeats are dropped", async () => {
  const hub = new ConsoleHub({ bytesMax: 8 });
  hub.append(0, Buffer.from("abcdef"));
  hub.append(0, Buffer.from("abcdefgh"));
  hub.append(2, Buffer.from("XX"));
  assert.equal(hub.mismatches, 1);
  assert.equal(hub.read(2, 3).bytes.toString(), "cde");
  hub.append(8, Buffer.from("ijk"));
  assert.deepEqual([hub.start, hub.end], [3, 11]);
  assert.equal(hub.read(0).offset, 3);
  assert.throws(() => hub.append(20, Buffer.from("x")), RangeError);
  const later = hub.readWaiting(11, { signal: new AbortController().signal });
  hub.append(11, Buffer.from("!"));
  assert.equal((await later).bytes.toString(), "!");
  const closing = hub.readWaiting(12, { signal: new AbortController().signal });
  hub.close();
  assert.equal((await closing).closed, true);
});

test("the gate passes nothing early and keeps the order", () => {
  const seen: number[] = [];
  const gate = new OutputGate<number>((item) => seen.push(item));
  gate.reset(5);
  gate.hold(0);
  gate.chunkSent();
  gate.hold(1);
  gate.chunkSent();
  gate.hold(2);
  assert.deepEqual(seen, [0]);
  gate.committed(6);
  assert.deepEqual(seen, [0, 1]);
  gate.reset(6);
  gate.committed(7);
  assert.deepEqual(seen, [0, 1]);
});

test("placement spreads evenly, is the same for all, and keeps copies off full nodes", () => {
  const nodes = Array.from({ length: 5 }, (_, index) => ({
    id: `node-${index}`,
    name: `n${index}`,
    memoryFreeBytes: index === 4 ? 0 : 1000,
    memoryBytes: 2000,
    domain: null,
  }));
  const firsts = new Map<string, number>();
  for (let vm = 0; vm < 1000; vm += 1) {
    const request = { vmId: `vm-${vm}`, memoryBytes: 500, copies: 2, witnesses: 1 };
    const placement = place(request, nodes);
    assert.deepEqual(placement, place(request, [...nodes].reverse()));
    const first = placement.replicas[0]!.id;
    firsts.set(first, (firsts.get(first) ?? 0) + 1);
    assert.equal(placement.witnesses[0]!.id, "node-4");
  }
  assert.equal(firsts.size, 4);
  for (const count of firsts.values()) assert.ok(count > 180 && count < 320, `${count}`);
});

test("placement gives larger nodes more, and spreads over failure domains", () => {
  const nodes = Array.from({ length: 6 }, (_, index) => ({
    id: `node-${index}`,
    name: `n${index}`,
    memoryFreeBytes: 1000,
    memoryBytes: index === 0 ? 4000 : 1000,
    domain: index < 4 ? "room-1" : "room-2",
  }));
  let larger = 0;
  for (let vm = 0; vm < 1000; vm += 1) {
    const request = { vmId: `vm-${vm}`, memoryBytes: 500, copies: 2, witnesses: 1 };
    const { replicas } = place(request, nodes);
    assert.notEqual(replicas[0]!.domain, replicas[1]!.domain);
    if (replicas[0]!.id === "node-0") larger += 1;
    const usedDomains = ["room-2"];
    assert.equal(place({ ...request, usedDomains }, nodes).replicas[0]!.domain, "room-1");
    // A node that goes moves nobody else.
    const without = nodes.filter(({ id }) => id !== replicas[0]!.id);
    const again = place({ ...request, usedDomains: ["room-3"] }, without).replicas;
    const before = replicas.slice(1).filter(({ domain }) => domain === again[0]!.domain);
    assert.equal(again[0]!.id, before[0]!.id);
  }
  assert.ok(larger > 370 && larger < 520, `${larger} of 1000 for 4 of 9 parts`);
});
