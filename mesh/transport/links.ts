/**
 * The links of a node. The peer with the lower id opens both streams, so that a pair never opens
 * two links at once; the other end accepts. A newer link replaces an older one, because the far end
 * has given the older one up. A link counts as up when both ends have said hello on it: a dial that
 * succeeded is no admission.
 */

import { randomBytes } from "node:crypto";
import type { Connection, Libp2p, Stream } from "@libp2p/interface";
import { Type } from "@sinclair/typebox";
import { Codec, SchemaError } from "../cbor.ts";
import type { Clock, Timer } from "../clock.ts";
import type { Refusals } from "../counters.ts";
import { transportLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import { FramedStream } from "./_framed_stream.ts";
import { PeerLink } from "./_peer_link.ts";
import { frameType } from "./frames.ts";

const CONTROL_PROTOCOL = "/node-mesh/control/1";
const BULK_PROTOCOL = "/node-mesh/bulk/1";
const WIRE_VERSION = 1;
const NONCE_BYTES = 16;

const helloCodec = new Codec(
  "hello",
  Type.Object({
    v: Type.Integer({ minimum: 1, maximum: 0xffff }),
    n: Type.Uint8Array({ minByteLength: NONCE_BYTES, maxByteLength: NONCE_BYTES }),
    a: Type.Array(Type.String({ maxLength: transportLimits.addrCharsMax }), {
      maxItems: transportLimits.peerAddrsMax,
    }),
  }),
);

export interface LinkEvents {
  onUp(id: NodeId, info: { addrs: readonly string[]; connection: Connection }): void;
  onDown(id: NodeId): void;
  onControl(id: NodeId, type: number, payload: Uint8Array): void;
  onBulk(id: NodeId, payload: Uint8Array, release: () => void): void;
}

export interface LinksInit {
  readonly libp2p: Libp2p;
  readonly clock: Clock;
  readonly refusals: Refusals;
  readonly addresses: () => readonly string[];
  /** Others open no link here. */
  readonly isMember: (id: NodeId) => boolean;
  readonly events: LinkEvents;
}

type StreamKind = "control" | "bulk";

/** A link whose second stream or hello is still missing. */
interface Half {
  readonly id: NodeId;
  readonly connection: Connection;
  nonce: string | null;
  addrs: readonly string[];
  control: FramedStream | null;
  bulk: FramedStream | null;
  timer: Timer;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

export class Links {
  readonly #init: LinksInit;
  readonly #links = new Map<NodeId, PeerLink>();
  readonly #halves = new Set<Half>();
  #stopped = false;

  constructor(init: LinksInit) {
    this.#init = init;
  }

  async start(): Promise<void> {
    const options = { maxInboundStreams: 8, maxOutboundStreams: 8 };
    const accept = (kind: StreamKind) => (stream: Stream, connection: Connection) =>
      this.#accept(kind, stream, connection);
    await this.#init.libp2p.handle(CONTROL_PROTOCOL, accept("control"), options);
    await this.#init.libp2p.handle(BULK_PROTOCOL, accept("bulk"), options);
  }

  stop(): void {
    this.#stopped = true;
    for (const half of [...this.#halves]) this.#dropHalf(half, null);
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }

  get(id: NodeId): PeerLink | undefined {
    return this.#links.get(id);
  }

  ids(): NodeId[] {
    return [...this.#links.keys()];
  }

  /** Opens the link over `connection`; resolves when it is up. */
  async open(id: NodeId, connection: Connection, signal: AbortSignal): Promise<void> {
    const streams: FramedStream[] = [];
    const done = Promise.withResolvers<readonly string[]>();
    // The waiter may be gone when this rejects.
    done.promise.catch(() => {});
    const onAbort = () => done.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const nonce = Uint8Array.from(randomBytes(NONCE_BYTES));
      const onClose = (fault: string | null) =>
        done.reject(new Error(fault ?? "the peer closed the stream"));
      const control = await this.#newStream("control", connection, signal, {
        onFrame: (type, payload) => {
          if (type === frameType.hello) done.resolve(this.#checkHello(payload, nonce));
        },
        onClose,
      });
      streams.push(control);
      // What arrives here before the far end's hello is lost, as on any link that breaks.
      const bulk = await this.#newStream("bulk", connection, signal, {
        onFrame: () => {},
        onClose,
      });
      streams.push(bulk);
      const hello = { v: WIRE_VERSION, n: nonce, a: [...this.#init.addresses()] };
      control.send(frameType.hello, helloCodec.encode(hello));
      bulk.send(frameType.hello, helloCodec.encode({ ...hello, a: [] }));
      const addrs = await done.promise;
      if (this.#stopped) throw new Error("the node is stopping");
      this.#up({ id, connection, control, bulk, addrs });
    } catch (error) {
      for (const stream of streams) stream.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  async #newStream(
    kind: StreamKind,
    connection: Connection,
    signal: AbortSignal,
    handlers: { onFrame(type: number, payload: Uint8Array): void; onClose(f: string | null): void },
  ): Promise<FramedStream> {
    const protocol = kind === "control" ? CONTROL_PROTOCOL : BULK_PROTOCOL;
    const stream = await connection.newStream(protocol, { signal, maxOutboundStreams: 8 });
    return new FramedStream(stream, frameBytesMax(kind), handlers);
  }

  #checkHello(payload: Uint8Array, nonce: Uint8Array): readonly string[] {
    const hello = helloCodec.decode(payload);
    if (hello.v !== WIRE_VERSION) {
      throw new SchemaError(`the peer speaks version ${hello.v}, this node ${WIRE_VERSION}`);
    }
    if (hex(hello.n) !== hex(nonce)) throw new SchemaError("hello of another link");
    return hello.a;
  }

  #accept(kind: StreamKind, stream: Stream, connection: Connection): void {
    const id = connection.remotePeer.toString();
    const half: Half = {
      id,
      connection,
      nonce: null,
      addrs: [],
      control: null,
      bulk: null,
      timer: this.#init.clock.after(transportLimits.linkHandshakeMs, () =>
        this.#dropHalf(half, "no hello in time"),
      ),
    };
    this.#halves.add(half);
    half[kind] = new FramedStream(stream, frameBytesMax(kind), {
      onFrame: (type, payload) => this.#onHello(half, type, payload),
      onClose: (fault) => this.#dropHalf(half, fault),
    });
    if (this.#stopped) this.#dropHalf(half, null);
    else if (!this.#init.isMember(id)) this.#dropHalf(half, "it is not a member");
    else if (id >= this.#init.libp2p.peerId.toString()) {
      this.#dropHalf(half, "the peer with the higher id opened a link");
    }
  }

  #onHello(half: Half, type: number, payload: Uint8Array): void {
    // Frames after the hello, but before the second stream came: lost like on a broken link.
    if (half.nonce !== null) return;
    if (type !== frameType.hello) throw new SchemaError(`frame type ${type} before hello`);
    const hello = helloCodec.decode(payload);
    if (hello.v !== WIRE_VERSION) {
      throw new SchemaError(`the peer speaks version ${hello.v}, this node ${WIRE_VERSION}`);
    }
    half.nonce = hex(hello.n);
    half.addrs = hello.a;
    for (const other of this.#halves) {
      if (other === half || other.id !== half.id || other.nonce !== half.nonce) continue;
      this.#join(
        half.control === null ? other : half,
        half.control === null ? half : other,
        hello.n,
      );
      return;
    }
  }

  /** Both streams are there: `first` has the control stream, `second` the bulk stream. */
  #join(first: Half, second: Half, nonce: Uint8Array): void {
    const { control } = first;
    const { bulk } = second;
    if (control === null || bulk === null) throw new SchemaError("two streams of one kind");
    for (const half of [first, second]) {
      half.timer.cancel();
      this.#halves.delete(half);
    }
    const hello = { v: WIRE_VERSION, n: nonce, a: [...this.#init.addresses()] };
    const { id, connection, addrs } = first;
    this.#up({ id, connection, control, bulk, addrs, hello: helloCodec.encode(hello) });
  }

  #dropHalf(half: Half, fault: string | null): void {
    if (!this.#halves.delete(half)) return;
    half.timer.cancel();
    half.control?.close();
    half.bulk?.close();
    if (fault !== null) this.#noteFault(half.id, fault);
  }

  #noteFault(id: NodeId, fault: string): void {
    const message = `Dropped the link to ${id}: ${fault}`;
    this.#init.refusals.note("link_protocol_errors", { peer: id }, message);
  }

  #up(parts: {
    id: NodeId;
    connection: Connection;
    control: FramedStream;
    bulk: FramedStream;
    addrs: readonly string[];
    hello?: Uint8Array;
  }): void {
    const { id, connection, control, bulk, addrs } = parts;
    const { events } = this.#init;
    const old = this.#links.get(id);
    if (old !== undefined) {
      this.#init.refusals.counters.add("links_replaced");
      old.close();
      this.#links.delete(id);
      events.onDown(id);
    }
    const link = new PeerLink({
      id,
      connection,
      control,
      bulk,
      onControl: (type, payload) => events.onControl(id, type, payload),
      onBulk: (payload, release) => events.onBulk(id, payload, release),
      onDown: (fault) => {
        if (this.#links.get(id) !== link) return;
        this.#links.delete(id);
        if (fault !== null) this.#noteFault(id, fault);
        events.onDown(id);
      },
    });
    this.#links.set(id, link);
    // The answer goes first: whatever is sent from here on follows it.
    if (parts.hello !== undefined) link.sendControl(frameType.hello, parts.hello);
    events.onUp(id, { addrs, connection });
  }
}

function frameBytesMax(kind: StreamKind): number {
  return kind === "control"
    ? transportLimits.controlFrameBytesMax
    : transportLimits.bulkFrameBytesMax;
}
