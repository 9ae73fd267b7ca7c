/** Keys, tickets and frames: what fits comes back, what does not is refused with a reason. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Uint8ArrayList } from "uint8arraylist";
import { FrameParser, frameHead, ProtocolError } from "./frames.ts";
import { generateMeshKey, meshKeyFromText, meshKeyToText } from "./mesh_key.ts";
import { decodeTicket, encodeTicket, isTicket, parseJoinTarget } from "./ticket.ts";

const ID = "12D3KooWQcgJdEgJDWyuCT42Ywnf6gdhANXfYimGTBLuidfDBS9B";
const ADDR = `/ip4/192.0.2.7/tcp/4001/p2p/${ID}`;

test("a mesh key survives as text; a damaged one is refused", () => {
  const key = generateMeshKey();
  const text = meshKeyToText(key);
  assert.deepEqual(meshKeyFromText(` ${text}\n`), key);
  assert.throws(() => meshKeyFromText(text.slice(0, -1)), /incomplete or mistyped/);
  const flipped = text.slice(0, 20) + (text[20] === "A" ? "B" : "A") + text.slice(21);
  assert.throws(() => meshKeyFromText(flipped), /incomplete or mistyped/);
  assert.throws(() => meshKeyFromText("hello"), /does not begin with "nmk1:"/);
});

test("a ticket survives as text; a cut, mistyped or foreign one is refused", () => {
  const target = {
    key: generateMeshKey(),
    invitation: { secret: generateMeshKey(), root: ID },
    id: ID,
    addrs: [ADDR, `/dns4/a.example/tcp/1/p2p/${ID}`],
  };
  const text = encodeTicket(target);
  assert.ok(isTicket(text) && /^[\w:-]+$/.test(text));
  assert.deepEqual(decodeTicket(text), target);
  for (let length = 0; length < text.length; length += 1) {
    assert.throws(() => decodeTicket(text.slice(0, length)), /Cannot read the ticket: .*; ask/);
  }
  assert.throws(() => decodeTicket(`nm1:${"A".repeat(10_000)}`), /too long/);
  assert.deepEqual(parseJoinTarget(text), target);
});

test("a multiaddr needs the identity and the key", () => {
  const key = generateMeshKey();
  assert.deepEqual(parseJoinTarget(ADDR, { key }), {
    key,
    invitation: null,
    id: ID,
    addrs: [ADDR],
  });
  assert.throws(() => parseJoinTarget(ADDR), /the mesh key is missing/);
  assert.throws(() => parseJoinTarget("/ip4/192.0.2.7/tcp/1", { key }), /identity is missing/);
  assert.throws(
    () => parseJoinTarget("192.0.2.7:4001", { key }),
    /neither a ticket nor a multiaddr/,
  );
});

test("frames come out whole however their bytes arrive", () => {
  const frames = fc.array(fc.tuple(fc.nat(255), fc.uint8Array({ maxLength: 300 })), {
    maxLength: 20,
  });
  const cuts = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(frames, cuts, (sent, sizes) => {
      const all = Buffer.concat(
        sent.flatMap(([type, body]) => [frameHead(type, body.length), body]),
      );
      const got: [number, Uint8Array][] = [];
      const parser = new FrameParser({
        frameBytesMax: 301,
        onFrame: (type, payload) => got.push([type, Uint8Array.from(payload)]),
      });
      const list = new Uint8ArrayList();
      let turn = 0;
      for (let at = 0; at < all.length; turn += 1) {
        const size = sizes[turn % sizes.length]!;
        if (turn % 3 === 0) list.append(all.subarray(at, at + size));
        else {
          parser.push(list.sublist());
          list.consume(list.byteLength);
          parser.push(all.subarray(at, at + size));
        }
        at += size;
      }
      parser.push(list);
      assert.deepEqual(
        got,
        sent.map(([type, body]) => [type, Uint8Array.from(body)]),
      );
    }),
  );
});

test("a frame that is empty or too long is refused before it is received", () => {
  for (const head of [
    [0, 0, 0, 0, 1],
    [0, 1, 0, 0, 1],
    [0xff, 0xff, 0xff, 0xff, 1],
  ]) {
    const parser = new FrameParser({ frameBytesMax: 255, onFrame: () => assert.fail() });
    assert.throws(() => parser.push(new Uint8Array(head)), ProtocolError);
  }
});
