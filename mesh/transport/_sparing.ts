/**
 * What makes small frames cheap in libp2p's packages, without a change on the wire: a commit is six
 * of them. Whatever is not as it is known here is an error at the first connection, and not slow.
 */

import type { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { StreamState, type YamuxStream } from "@chainsafe/libp2p-yamux/stream";

/** What the package keeps to itself: the receiving half's window, and how much of it is left. */
interface ReceiveWindow {
  readonly recvWindow: number;
  readonly recvWindowCapacity: number;
}

/** Private to the package's class; each stream of a connection, from either end, is made here. */
interface StreamMaker {
  _newStream(...request: unknown[]): YamuxStream;
}

/**
 * yamux that says how much it has read when half of a stream's window is used, as the protocol's
 * description has it. The package says so after every frame: that is a second frame, encrypted and
 * written to the socket, for each small one. An update that a sender may wait for is never held.
 */
export function sparingYamux(): ReturnType<typeof yamux> {
  const makeFactory = yamux();
  return () => {
    const factory = makeFactory();
    const create = factory.createStreamMuxer.bind(factory);
    factory.createStreamMuxer = (connection) => {
      const muxer = create(connection);
      const maker = muxer as unknown as StreamMaker;
      const make = maker._newStream.bind(muxer);
      maker._newStream = (...request) => spared(make(...request));
      return muxer;
    };
    return factory;
  };
}

function spared(stream: YamuxStream): YamuxStream {
  const update = stream.sendWindowUpdate.bind(stream);
  const { recvWindow, recvWindowCapacity } = stream as unknown as Partial<ReceiveWindow>;
  if (typeof recvWindow !== "number" || typeof recvWindowCapacity !== "number") {
    throw new TypeError("Cannot use yamux: its streams do not have the window known to this code");
  }
  stream.sendWindowUpdate = () => {
    const { recvWindow: all, recvWindowCapacity: left } = stream as unknown as ReceiveWindow;
    // In the other states the update also opens or accepts the stream.
    if (stream.state === StreamState.Established && left > all / 2) return;
    update();
  };
  return stream;
}

type NoiseFactory = ReturnType<typeof noise>;
type LengthDecoder = (data: { readonly byteLength: number }) => number;

/** Of a secured connection: where it cuts what comes in into messages. */
interface Decoding {
  readonly decoder?: { lengthDecoder?: LengthDecoder };
}

const lengthBytes = 2;
/** Made once: the decoder only wants to know its kind. */
const tooShort = new RangeError("the length of the next message is not there yet");

/**
 * Noise that does not make a stack trace for every message. The package finds the end of what has
 * arrived by an exception.
 */
export function sparingNoise(make: NoiseFactory): NoiseFactory {
  return (components) => {
    const inner = make(components);
    const secureInbound = inner.secureInbound.bind(inner);
    const secureOutbound = inner.secureOutbound.bind(inner);
    inner.secureInbound = async (...request) => sparedDecoding(await secureInbound(...request));
    inner.secureOutbound = async (...request) => sparedDecoding(await secureOutbound(...request));
    return inner;
  };
}

function sparedDecoding<T extends { readonly connection: object }>(secured: T): T {
  const { decoder } = secured.connection as Decoding;
  const decode = decoder?.lengthDecoder;
  if (decoder === undefined || typeof decode !== "function") {
    throw new TypeError("Cannot use noise: its connections are not as known to this code");
  }
  decoder.lengthDecoder = (data) => {
    if (data.byteLength < lengthBytes) throw tooShort;
    return decode(data);
  };
  return secured;
}
