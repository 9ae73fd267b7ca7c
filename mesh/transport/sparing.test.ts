/** What small frames cost on the wire, and that a stream never stands still for the saving. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Stream, StreamMuxer, StreamMuxerFactory } from "@libp2p/interface";
import { multiaddrConnectionPair } from "@libp2p/utils";
import { CreditReturn } from "./_bulk_window.ts";
import { sparingYamux } from "./_sparing.ts";

const KIB = 1024;

interface Pair {
  readonly near: StreamMuxer;
  readonly far: Promise<Stream>;
  /** Bytes of yamux frames that the far end has sent. */
  answeredBytes(): number;
  close(): void;
}

function connect(): Pair {
  const [outbound, inbound] = multiaddrConnectionPair();
  const make = (): StreamMuxerFactory => sparingYamux()();
  const near = make().createStreamMuxer(outbound);
  const farMuxer = make().createStreamMuxer(inbound);
  const far = Promise.withResolvers<Stream>();
  farMuxer.addEventListener("stream", (event) => far.resolve(event.detail));
  let answered = 0;
  outbound.addEventListener("message", (event) => {
    answered += event.data.byteLength;
  });
  const close = () => {
    outbound.abort(new Error("the test is over"));
    inbound.abort(new Error("the test is over"));
  };
  return { near, far: far.promise, answeredBytes: () => answered, close };
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const end = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > end) assert.fail(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("small frames are not answered one by one", async () => {
  const pair = connect();
  try {
    const stream = await pair.near.createStream();
    stream.send(new Uint8Array(1));
    const far = await pair.far;
    let received = 0;
    far.addEventListener("message", (event) => {
      received += event.data.byteLength;
    });
    await until("the first byte", () => pair.answeredBytes() > 0);
    const before = pair.answeredBytes();
    for (let n = 0; n < 100; n += 1) stream.send(new Uint8Array(100));
    await until("all of it", () => received >= 10_000);
    await new Promise((resolve) => setTimeout(resolve, 50));
    // The stream's opening and a ping may still be under way; a hundred answers are not.
    const answered = pair.answeredBytes() - before;
    assert.ok(answered <= 60, `${answered} bytes`);
  } finally {
    pair.close();
  }
});

test("far more than a window arrives", async () => {
  const pair = connect();
  try {
    const stream = await pair.near.createStream();
    stream.send(new Uint8Array(1));
    const far = await pair.far;
    let received = 0;
    far.addEventListener("message", (event) => {
      received += event.data.byteLength;
    });
    for (let n = 0; n < 64; n += 1) stream.send(new Uint8Array(64 * KIB));
    await until("four mebibytes", () => received >= 64 * 64 * KIB);
  } finally {
    pair.close();
  }
});

test("credit comes at once for much, soon for little, and is never lost", async () => {
  const given: number[] = [];
  const credit = new CreditReturn((bytes) => given.push(bytes));
  credit.take(100)();
  credit.take(50)();
  assert.deepEqual(given, []);
  await until("credit for little", () => given.length === 1);
  assert.deepEqual(given, [150]);
  const release = credit.take(200 * KIB);
  release();
  release();
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  assert.deepEqual(given, [150, 200 * KIB]);
  credit.take(10)();
  credit.close();
});
