import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameHub, frameReadMax } from "./frame_hub.ts";
import { FramesInFlight, framesInFlightMax } from "./frames_in_flight.ts";

const frame = (text: string): Buffer => Buffer.from(text.padEnd(14, "."));

test("frames are read by number, and those that are said again are dropped", () => {
  const hub = new FrameHub();
  for (const number of [0, 1, 2]) hub.append(number, frame(`frame ${number}`));
  for (const number of [1, 2, 3]) hub.append(number, frame(`frame ${number}`));
  const { number, frames, end, closed } = hub.read(1);
  assert.deepEqual({ number, end, closed }, { number: 1, end: 4, closed: false });
  assert.deepEqual(frames.map(String), ["frame 1.......", "frame 2.......", "frame 3......."]);
  assert.equal(hub.read(9).number, 4);
});

test("old frames give way, and a reader is told where the ring begins", () => {
  const hub = new FrameHub({ bytesMax: 100, framesMax: 3 });
  for (let number = 0; number < 10; number += 1) hub.append(number, frame(`${number}`));
  assert.deepEqual([hub.start, hub.end], [7, 10]);
  hub.append(10, Buffer.alloc(90));
  assert.deepEqual([hub.start, hub.end], [10, 11]);
  assert.equal(hub.read(0).number, 10);
});

test("a copy that begins later leaves a gap", () => {
  const hub = new FrameHub();
  hub.append(0, frame("early"));
  hub.append(500, frame("late"));
  assert.deepEqual([hub.start, hub.end], [500, 501]);
});

test("one read is bounded", () => {
  const hub = new FrameHub();
  for (let number = 0; number < 1000; number += 1) hub.append(number, frame(`${number}`));
  assert.equal(hub.read(0).frames.length, frameReadMax);
});

test("a waiting reader wakes for a frame, the end and its signal", async () => {
  const hub = new FrameHub();
  const signal = new AbortController().signal;
  const first = hub.readWaiting(0, { signal });
  hub.append(0, frame("hello"));
  assert.equal((await first).frames.length, 1);
  const aborted = new AbortController();
  const second = hub.readWaiting(1, { signal: aborted.signal });
  aborted.abort();
  assert.equal((await second).frames.length, 0);
  const third = hub.readWaiting(1, { signal });
  hub.close();
  assert.equal((await third).closed, true);
});

test("frames in flight are bounded, and lost with their copy", async () => {
  const flight = new FramesInFlight();
  const sent = Array.from({ length: framesInFlightMax }, (_, seq) => flight.add(7, seq));
  assert.equal(flight.add(7, framesInFlightMax), null);
  flight.applied({ source: 7, seq: 0, accepted: true });
  assert.equal(await sent[0], true);
  flight.reset();
  assert.equal(await sent[1], false);
});
