/**
 * A node of the mesh: its identity, its links to all peers it knows, and the requests that run over
 * them. It owns libp2p; nothing else of the mesh talks to it but blobs and the directory, which add
 * their own protocols. It knows nothing of groups: it carries their frames.
 */

import type { Connection, Libp2p } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { type Clock, systemClock } from "../clock.ts";
import { Counters, type MeshLog, Refusals, silentLog } from "../counters.ts";
import { blobLimits, rpcLimits, transportLimits } from "../limits.ts";
import type { NodeId, Prng } from "../raft/types.ts";
import type { MetaStore } from "../storage/storage.ts";
import { dialableAddresses } from "./_addresses.ts";
import { Knocking } from "./_knocking.ts";
import { type MeshServices, startLibp2p } from "./_libp2p.ts";
import { libp2pRpcWire } from "./_rpc_wire.ts";
import { frameType, ProtocolError } from "./frames.ts";
import { type Gate, keyIsEnough } from "./gate.ts";
import { loadIdentity, loadMeshKey, type MeshKey } from "./identity.ts";
import { Links } from "./links.ts";
import { PeerBook } from "./peer_book.ts";
import { PeerKeeper } from "./peer_keeper.ts";
import { Rpc } from "./rpc.ts";
import { nodeIdOf } from "./ticket.ts";

export interface PeerEvent {
  readonly kind: "up" | "down";
  readonly id: NodeId;
}

export interface PeerStatus {
  readonly id: NodeId;
  readonly addrs: readonly string[];
  readonly connected: boolean;
  /** Round trip of libp2p's own ping; null before the first. */
  readonly rttMs: number | null;
  /** Since the last link came up; null without one in this run. */
  readonly sinceSeenMs: number | null;
  readonly lastFailure: string | null;
}

/** What carries the frames of groups between nodes. */
export interface GroupTransport {
  readonly id: NodeId;
  isConnected(id: NodeId): boolean;
  /** Small and urgent. False if it was dropped. */
  sendControl(to: NodeId, payload: Uint8Array): boolean;
  /** Large; within the peer's credit. False if it was dropped. */
  sendBulk(to: NodeId, payload: Uint8Array): boolean;
  /** `release` must be called once when the payload was worked off. */
  onGroupFrame(
    listener: (from: NodeId, payload: Uint8Array, release: () => void) => void,
  ): () => void;
  onPeer(listener: (event: PeerEvent) => void): () => void;
}

export interface MeshNodeOptions {
  readonly meta: MetaStore;
  /** Multiaddr texts, e.g. "/ip4/0.0.0.0/tcp/4001". */
  readonly listen: readonly string[];
  /** Further addresses under which others reach this node. */
  readonly announce?: readonly string[];
  /** 32 bytes; without it the stored key, or a new mesh if there is none. */
  readonly meshKey?: Uint8Array;
  /** Multiaddrs with /p2p/ID of peers to find the mesh by. */
  readonly bootstrap?: readonly string[];
  /** Whom to let in; whoever lacks the key is refused before. Default: the key is enough. */
  readonly gate?: Gate;
  readonly clock?: Clock;
  readonly prng?: Prng;
  readonly log?: MeshLog;
  readonly counters?: Counters;
}

const RELEASED = () => {};

export class MeshNode implements GroupTransport {
  readonly id: NodeId;
  readonly key: Uint8Array;
  readonly libp2p: Libp2p<MeshServices>;
  readonly rpc: Rpc;
  /** The same for what is large and slow, on a protocol and with limits of its own. */
  readonly transfers: Rpc;
  /** What a newcomer may ask: to become a member. */
  readonly knocks: Rpc;
  readonly refusals: Refusals;
  readonly #meshKey: MeshKey;
  readonly #links: Links;
  readonly #book: PeerBook;
  readonly #keeper: PeerKeeper;
  readonly #clock: Clock;
  readonly #log: MeshLog;
  readonly #gate: Gate;
  readonly #knocking: Knocking;
  readonly #listen: readonly string[];
  readonly #announce: readonly string[];
  readonly #peerListeners = new Set<(event: PeerEvent) => void>();
  readonly #frameListeners = new Set<Parameters<GroupTransport["onGroupFrame"]>[0]>();
  #stopping: Promise<void> | null = null;

  private constructor(parts: {
    options: MeshNodeOptions;
    key: MeshKey;
    libp2p: Libp2p<MeshServices>;
    refusals: Refusals;
    clock: Clock;
    knocking: Knocking;
  }) {
    const { options, libp2p, clock, refusals } = parts;
    const gate = options.gate ?? keyIsEnough;
    this.#gate = gate;
    this.#knocking = parts.knocking;
    this.id = libp2p.peerId.toString();
    this.#meshKey = parts.key;
    this.key = parts.key.key;
    this.libp2p = libp2p;
    this.refusals = refusals;
    this.#clock = clock;
    this.#log = options.log ?? silentLog;
    this.#listen = options.listen;
    this.#announce = options.announce ?? [];
    this.#links = new Links({
      libp2p,
      clock,
      refusals,
      addresses: () => this.#plainAddresses(),
      isMember: (id) => gate.isMember(id),
      events: {
        onUp: (id, info) => this.#onUp(id, info),
        onDown: (id) => this.#onDown(id),
        onControl: (id, type, payload) => this.#onControl(id, type, payload),
        onBulk: (id, payload, release) => this.#onFrame(id, payload, release),
      },
    });
    this.#keeper = new PeerKeeper({
      libp2p,
      links: this.#links,
      clock,
      prng: options.prng ?? { next: Math.random },
      counters: refusals.counters,
    });
    this.#book = new PeerBook({
      self: this.id,
      meta: options.meta,
      clock,
      mayKnow: (id) => gate.isMember(id),
      onAdded: (peer) => this.#keeper.add(peer),
      onDropped: (id) => this.#keeper.remove(id),
      onSaveError: (error) =>
        this.#log.warn({ error: error.message }, "Cannot store the list of known peers"),
    });
    const isMember = (id: NodeId) => gate.isMember(id);
    const anyone = () => true;
    this.rpc = this.#makeRpc("rpc", rpcLimits.inboundPerPeerMax, isMember);
    this.transfers = this.#makeRpc("blob", blobLimits.inboundPerPeerMax, isMember);
    this.knocks = this.#makeRpc("join", rpcLimits.knocksPerPeerMax, anyone);
  }

  #makeRpc(name: string, streamsPerPeerMax: number, mayAsk: (id: NodeId) => boolean): Rpc {
    const protocol = `/node-mesh/${name}/1`;
    const wire = libp2pRpcWire({ libp2p: this.libp2p, protocol, streamsPerPeerMax });
    return new Rpc({ self: this.id, wire, mayAsk, refusals: this.refusals });
  }

  static async start(options: MeshNodeOptions): Promise<MeshNode> {
    const clock = options.clock ?? systemClock();
    const counters = options.counters ?? new Counters();
    const refusals = new Refusals({ counters, log: options.log ?? silentLog, clock });
    const privateKey = await loadIdentity(options.meta);
    const key = await loadMeshKey(options.meta, options.meshKey);
    const knocking = new Knocking({ gate: options.gate ?? keyIsEnough, clock });
    const libp2p = await startLibp2p({
      privateKey,
      meshKey: key.key,
      listen: options.listen,
      announce: options.announce ?? [],
      refusals,
      gate: knocking,
      sponsor: () => knocking.sponsor,
    });
    const node = new MeshNode({ options, key, libp2p, refusals, clock, knocking });
    try {
      await node.#run(options.bootstrap ?? []);
    } catch (error) {
      await node.stop();
      throw error;
    }
    return node;
  }

  async #run(bootstrap: readonly string[]): Promise<void> {
    this.libp2p.addEventListener("connection:open", (event) => this.#onConnection(event.detail));
    await this.rpc.start();
    await this.transfers.start();
    await this.knocks.start();
    await this.#links.start();
    this.#book.load();
    for (const addr of bootstrap) {
      const id = nodeIdOf(addr);
      if (id === null) throw new TypeError(`Cannot use peer "${addr}": /p2p/ID is missing`);
      this.#book.learn(id, [addr]);
    }
  }

  #onConnection(connection: Connection): void {
    if (this.#stopping !== null) return;
    const id = connection.remotePeer.toString();
    if (!this.#gate.isMember(id)) {
      this.#knocking.came(connection);
      return;
    }
    // Its own addresses come with its hello.
    this.#book.learn(id, []);
    this.#keeper.wake(id);
  }

  #onUp(id: NodeId, info: { addrs: readonly string[]; connection: Connection }): void {
    const { connection } = info;
    const reached = connection.direction === "outbound" ? [connection.remoteAddr.toString()] : [];
    // The peer has accepted the key: from now on this node belongs to that mesh.
    this.#meshKey.keep().catch((error: Error) => {
      this.#log.error({ error: error.message }, "Cannot store the mesh key");
    });
    const isNews = this.#book.seen(id, [...reached, ...info.addrs]);
    this.#keeper.wake(id);
    this.#links.get(id)?.sendControl(frameType.peers, this.#book.told());
    if (isNews) {
      const news = this.#book.told([id]);
      for (const other of this.#links.ids()) {
        if (other !== id) this.#links.get(other)?.sendControl(frameType.peers, news);
      }
    }
    this.#log.info({ peer: id }, "Peer connected");
    this.#emit({ kind: "up", id });
  }

  #onDown(id: NodeId): void {
    this.#keeper.wake(id);
    this.#log.info({ peer: id }, "Peer disconnected");
    this.#emit({ kind: "down", id });
  }

  #emit(event: PeerEvent): void {
    for (const listener of [...this.#peerListeners]) {
      try {
        listener(event);
      } catch (error) {
        this.#log.error({ error: String(error) }, "A listener of peer events failed");
      }
    }
  }

  #onControl(id: NodeId, type: number, payload: Uint8Array): void {
    switch (type) {
      case frameType.group:
        this.#onFrame(id, payload, RELEASED);
        break;
      case frameType.peers:
        this.#book.hear(payload);
        break;
      case frameType.hello:
        break;
      default:
        throw new ProtocolError(`frame type ${type} on the control stream`);
    }
  }

  #onFrame(id: NodeId, payload: Uint8Array, release: () => void): void {
    if (this.#frameListeners.size === 0) release();
    for (const listener of this.#frameListeners) listener(id, payload, release);
  }

  isMember(id: NodeId): boolean {
    return this.#gate.isMember(id);
  }

  isConnected(id: NodeId): boolean {
    return this.#links.get(id) !== undefined;
  }

  sendControl(to: NodeId, payload: Uint8Array): boolean {
    const sent = this.#links.get(to)?.sendControl(frameType.group, payload) === true;
    if (!sent) this.refusals.counters.add("control_frames_dropped");
    return sent;
  }

  sendBulk(to: NodeId, payload: Uint8Array): boolean {
    const sent = this.#links.get(to)?.sendBulk(payload) === true;
    if (!sent) this.refusals.counters.add("bulk_frames_dropped");
    return sent;
  }

  onGroupFrame(listener: Parameters<GroupTransport["onGroupFrame"]>[0]): () => void {
    this.#frameListeners.add(listener);
    return () => this.#frameListeners.delete(listener);
  }

  onPeer(listener: (event: PeerEvent) => void): () => void {
    this.#peerListeners.add(listener);
    return () => this.#peerListeners.delete(listener);
  }

  #plainAddresses(): string[] {
    const { libp2p } = this;
    // The interface type leaves the components out; the class has them.
    const { components } = libp2p as unknown as {
      components: { transportManager: { getAddrs(): { toString(): string }[] } };
    };
    const bound = components.transportManager.getAddrs().map(String);
    return dialableAddresses(this.#listen, { bound, announce: this.#announce });
  }

  /** Dialable multiaddrs with /p2p/ID. */
  addresses(): string[] {
    return this.#plainAddresses().map((addr) => `${addr.replace(/\/p2p\/.*$/, "")}/p2p/${this.id}`);
  }

  peers(): PeerStatus[] {
    const now = this.#clock.now();
    return this.#book.all().map(({ id, addrs, lastSeenMs }) => {
      const link = this.#links.get(id);
      return {
        id,
        addrs,
        connected: link !== undefined,
        rttMs: link?.connection.rtt ?? null,
        sinceSeenMs: lastSeenMs === null ? null : now - lastSeenMs,
        lastFailure: link === undefined ? this.#keeper.lastFailure(id) : null,
      };
    });
  }

  /** Addresses of a peer that somebody told (the directory); tried after the known ones. */
  learnPeer(id: NodeId, addrs: readonly string[]): void {
    this.#book.learn(id, addrs);
  }

  /** No longer dials this peer. It stays welcome. */
  forget(id: NodeId): void {
    this.#book.drop(id);
  }

  /** The mesh key given at the start becomes this node's own. */
  keepKey(): Promise<void> {
    return this.#meshKey.keep();
  }

  /** Who belongs has changed: newcomers may come again as members, former members go. */
  membersChanged(): void {
    for (const connection of this.libp2p.getConnections()) {
      const id = connection.remotePeer.toString();
      if (!this.#gate.isMember(id)) {
        if (!this.#knocking.isKnocking(id)) connection.abort(new Error("not a member"));
      } else if (this.#knocking.isKnocking(id)) this.#knocking.dismissSoon(id);
    }
    for (const { id } of this.#book.all()) if (!this.#gate.isMember(id)) this.#book.drop(id);
  }

  /** A connection to a member on which this node may ask to become one too. */
  async knock(
    addrs: readonly string[],
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<{ id: NodeId; leave: () => Promise<void> }> {
    const id = addrs.map(nodeIdOf).find((found) => found !== null) ?? "";
    const limits = [AbortSignal.timeout(2 * transportLimits.dialTimeoutMs)];
    if (options.signal !== undefined) limits.push(options.signal);
    this.#knocking.sponsor = id;
    try {
      const to = addrs.map((addr) => multiaddr(addr));
      const connection = await this.libp2p.dial(to, { signal: AbortSignal.any(limits) });
      const leave = async () => {
        this.#knocking.sponsor = null;
        await connection.close().catch(() => {});
      };
      return { id, leave };
    } catch (error) {
      this.#knocking.sponsor = null;
      if (options.signal?.aborted) throw options.signal.reason;
      throw joinError(addrs.join(", "), error);
    }
  }

  /** Connects to a member; resolves when the link is up, which is the admission. */
  async join(
    addrs: readonly string[],
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<NodeId> {
    const id = addrs.map(nodeIdOf).find((found) => found !== null);
    const where = addrs.join(", ");
    if (id === undefined || id === null) {
      throw new TypeError(`Cannot join "${where}": the address must end in /p2p/<identity>`);
    }
    if (id === this.id) throw new TypeError(`Cannot join "${where}": that is this node itself`);
    const limits = [AbortSignal.timeout(2 * transportLimits.dialTimeoutMs)];
    if (options.signal !== undefined) limits.push(options.signal);
    const signal = AbortSignal.any(limits);
    try {
      if (!this.isConnected(id)) {
        await this.libp2p.dial(
          addrs.map((addr) => multiaddr(addr)),
          { signal },
        );
        this.#book.learn(id, addrs);
        this.#keeper.wake(id);
        await this.#linkUp(id, signal);
      }
      return id;
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      throw joinError(where, error);
    }
  }

  #linkUp(id: NodeId, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.isConnected(id)) {
        resolve();
        return;
      }
      const finish = () => {
        unsubscribe();
        signal.removeEventListener("abort", onAbort);
      };
      const onAbort = () => {
        finish();
        reject(new Error("it did not admit this node in time"));
      };
      const unsubscribe = this.onPeer((event) => {
        if (event.kind !== "up" || event.id !== id) return;
        finish();
        resolve();
      });
      signal.addEventListener("abort", onAbort, { once: true });
      if (signal.aborted) onAbort();
    });
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#links.stop();
    await this.#keeper.stop();
    await this.rpc.stop();
    await this.transfers.stop();
    await this.knocks.stop();
    await this.#book.stop();
    try {
      await this.libp2p.stop();
    } catch (error) {
      this.#log.warn({ error: String(error) }, "Stopping the network did not go cleanly");
    }
  }
}

/** All messages and names of an error and what caused it. */
function flatten(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(flatten).join(" ");
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : ` ${flatten(error.cause)}`;
  return `${error.name}: ${error.message}${cause}`;
}

function joinError(where: string, error: unknown): Error {
  const text = flatten(error);
  const say = (why: string) => new Error(`Cannot join "${where}": ${why}`, { cause: error });
  if (/UnexpectedPeer|Payload identity key/.test(text)) {
    return say("another node answered there; the identity in the address is not its own");
  }
  if (/chacha20poly1305|handshake stage|EncryptionFailed/.test(text)) {
    return say("the node refused the mesh key; use a ticket made by a member of that mesh");
  }
  if (/ECONNREFUSED/.test(text)) {
    return say("nothing listens there; check that the node is up and the address is right");
  }
  if (/EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|TimeoutError|aborted due to timeout/.test(text)) {
    return say("it cannot be reached; check the address, the network and the firewall");
  }
  return say(error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error));
}
