/**
 * Requests and answers on a stream: length-prefixed CBOR envelopes. For item streams the caller
 * sends back how many bytes it has taken; the server keeps at most a window of them under way.
 */

import type { Libp2p, Stream } from "@libp2p/interface";
import { peerIdFromString } from "@libp2p/peer-id";
import { lpStream } from "@libp2p/utils";
import { Type } from "@sinclair/typebox";
import { Codec, SchemaError } from "../cbor.ts";
import { rpcLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";

const ENVELOPE_BYTES = 256;
const CLOSE_TIMEOUT_MS = 1_000;

const requestCodec = new Codec(
  "the request",
  Type.Object({ m: Type.String({ maxLength: 100 }), b: Type.Unknown() }),
);

const answerCodec = new Codec(
  "the answer",
  Type.Object({
    /** The result or an item, encoded by its own schema. */
    r: Type.Optional(Type.Uint8Array({ maxByteLength: rpcLimits.responseBytesMax })),
    e: Type.Optional(Type.String({ maxLength: rpcLimits.errorCharsMax })),
    /** The end of an item stream. */
    z: Type.Optional(Type.Boolean()),
  }),
);

const creditCodec = new Codec(
  "the credit",
  Type.Integer({ minimum: 1, maximum: rpcLimits.streamCreditBytes }),
);

export interface RpcAnswer {
  readonly result?: Uint8Array;
  readonly error?: string;
  readonly end: boolean;
}

export interface RpcWire {
  listen(serve: (stream: RpcStream, from: NodeId) => void): Promise<void>;
  open(peer: NodeId, signal: AbortSignal): Promise<RpcStream>;
}

export class RpcStream {
  readonly #stream: Stream;
  readonly #lp: ReturnType<typeof lpStream<Stream>>;
  readonly #closed = new AbortController();

  constructor(stream: Stream) {
    this.#stream = stream;
    const onClose = () => this.#closed.abort(new Error("the connection closed"));
    stream.addEventListener("close", onClose);
    const maxDataLength =
      Math.max(rpcLimits.requestBytesMax, rpcLimits.responseBytesMax) + ENVELOPE_BYTES;
    this.#lp = lpStream(stream, { maxDataLength, maxBufferSize: 2 * maxDataLength });
  }

  /** Aborted when the stream is closed at the far end or broke. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  async #read(signal: AbortSignal): Promise<Uint8Array> {
    return (await this.#lp.read({ signal })).subarray();
  }

  async readRequest(signal: AbortSignal): Promise<{ method: string; body: unknown }> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(rpcLimits.timeoutMs)]);
    const bytes = await this.#read(limit);
    if (bytes.length > rpcLimits.requestBytesMax) {
      throw new SchemaError(`the request has ${bytes.length} bytes`);
    }
    const { m, b } = requestCodec.decode(bytes);
    return { method: m, body: b };
  }

  async writeRequest(method: string, body: unknown, signal: AbortSignal): Promise<void> {
    const bytes = requestCodec.encode({ m: method, b: body });
    if (bytes.length > rpcLimits.requestBytesMax) {
      throw new RangeError(`Cannot send "${method}": ${bytes.length} bytes are too many`);
    }
    await this.#lp.write(bytes, { signal });
  }

  async readAnswer(signal: AbortSignal): Promise<RpcAnswer> {
    const { r, e, z } = answerCodec.decode(await this.#read(signal));
    return {
      ...(r === undefined ? {} : { result: r }),
      ...(e === undefined ? {} : { error: e }),
      end: z === true,
    };
  }

  async writeResult(result: Uint8Array, signal: AbortSignal): Promise<void> {
    if (result.length > rpcLimits.responseBytesMax) {
      throw new RangeError(`the answer has ${result.length} bytes, which is too many`);
    }
    await this.#lp.write(answerCodec.encode({ r: result }), { signal });
  }

  async writeEnd(signal: AbortSignal): Promise<void> {
    await this.#lp.write(answerCodec.encode({ z: true }), { signal });
  }

  async readCredit(signal: AbortSignal): Promise<number> {
    return creditCodec.decode(await this.#read(signal));
  }

  async writeCredit(bytes: number, signal: AbortSignal): Promise<void> {
    await this.#lp.write(creditCodec.encode(bytes), { signal });
  }

  /** Ends the stream after what was written; never throws. */
  async end(signal: AbortSignal): Promise<void> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(CLOSE_TIMEOUT_MS)]);
    try {
      await this.#stream.close({ signal: limit });
    } catch {
      this.abort();
    }
  }

  /** Tells the caller why it gets no answer; never throws. */
  async fail(message: string): Promise<void> {
    const limit = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
    try {
      await this.#lp.write(answerCodec.encode({ e: message }), { signal: limit });
      await this.end(limit);
    } catch {
      this.abort();
    }
  }

  abort(): void {
    try {
      this.#stream.abort(new Error("request ended"));
    } catch {
      // It was closed already.
    }
  }
}

/** The items until `signal` is aborted, then its reason, even if the next item never comes. */
export async function* untilAborted<T>(
  items: AsyncIterable<T>,
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  const iterator = items[Symbol.asyncIterator]();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const onAbort = () => aborted.reject(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    while (true) {
      const next = await Promise.race([iterator.next(), aborted.promise]);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    // Not awaited: a handler that is stuck in its own await would hold this up as well.
    Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

/** Sends items while the caller gives credit, and the end after the last. */
export async function serveItems(
  stream: RpcStream,
  items: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const done = new AbortController();
  const both = AbortSignal.any([signal, done.signal]);
  let underWayBytes = 0;
  let wake = Promise.withResolvers<void>();
  let failed: unknown;
  const credits = (async () => {
    try {
      while (!both.aborted) {
        const credit = await stream.readCredit(both);
        underWayBytes -= credit;
        if (underWayBytes < 0) throw new SchemaError("more credit than was sent");
        wake.resolve();
      }
    } catch (error) {
      failed ??= error;
      wake.resolve();
    }
  })();
  try {
    for await (const item of untilAborted(items, both)) {
      if (item.length > rpcLimits.itemBytesMax) {
        throw new RangeError(`an item has ${item.length} bytes, which is too many`);
      }
      while (underWayBytes > 0 && underWayBytes + item.length > rpcLimits.streamCreditBytes) {
        if (failed !== undefined) throw failed;
        wake = Promise.withResolvers<void>();
        await wake.promise;
      }
      if (failed !== undefined) throw failed;
      underWayBytes += item.length;
      await stream.writeResult(item, signal);
    }
    await stream.writeEnd(signal);
  } finally {
    done.abort(new Error("served"));
    await credits;
  }
}

/** The items of a stream; gives credit for each when the next one is asked for. */
export async function* takeItems(
  stream: RpcStream,
  signal: AbortSignal,
): AsyncGenerator<RpcAnswer, void, undefined> {
  let owedBytes = 0;
  while (true) {
    if (owedBytes >= rpcLimits.streamCreditStepBytes) {
      await stream.writeCredit(owedBytes, signal);
      owedBytes = 0;
    }
    const answer = await stream.readAnswer(signal);
    if (answer.end) return;
    yield answer;
    owedBytes += answer.result?.length ?? 0;
  }
}

export interface WireInit {
  readonly libp2p: Libp2p;
  readonly protocol: string;
  /** Streams of one peer at a time; libp2p resets further ones. */
  readonly streamsPerPeerMax: number;
}

/** Requests over libp2p; one stream each. Only peers with an open connection are asked. */
export function libp2pRpcWire(init: WireInit): RpcWire {
  const { libp2p, protocol } = init;
  const limits = {
    maxInboundStreams: init.streamsPerPeerMax,
    maxOutboundStreams: init.streamsPerPeerMax,
  };
  return {
    listen: async (serve) => {
      await libp2p.handle(
        protocol,
        (stream, connection) => serve(new RpcStream(stream), connection.remotePeer.toString()),
        limits,
      );
    },
    open: async (peer, signal) => {
      const connections = libp2p.getConnections(peerIdFromString(peer));
      const connection = connections.find(({ status }) => status === "open");
      if (connection === undefined) throw new Error("it is not connected");
      return new RpcStream(await connection.newStream(protocol, { signal, ...limits }));
    },
  };
}
