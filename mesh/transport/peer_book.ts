/**
 * The peers a node knows and where they were last reached. Kept across restarts, so that a node
 * finds its mesh again without help. What other peers tell is checked, bounded, and never displaces
 * what this node has seen itself.
 */

import { multiaddr } from "@multiformats/multiaddr";
import { Type } from "@sinclair/typebox";
import { Codec } from "../cbor.ts";
import type { Clock, Timer } from "../clock.ts";
import { transportLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import type { MetaStore } from "../storage/storage.ts";
import { isNodeId } from "./ticket.ts";

const META_KEY = "peers";
const SAVE_DELAY_MS = 1_000;
/** Addresses of a peer that are told to others. */
const TOLD_ADDRS_MAX = 4;
/** IPv4/IPv6 or a name, then TCP: what this node's transport can dial. */
const DIALABLE = /^\/(ip4|ip6|dns|dns4|dns6)\/[^/]+\/tcp\/\d+$/;

const peersCodec = new Codec(
  "the list of peers",
  Type.Array(
    Type.Object({
      id: Type.String({ maxLength: 128 }),
      addrs: Type.Array(Type.String({ maxLength: transportLimits.addrCharsMax }), {
        maxItems: transportLimits.peerAddrsMax,
      }),
    }),
    { maxItems: transportLimits.peersMax },
  ),
);

export interface KnownPeer {
  readonly id: NodeId;
  /** Without /p2p/ID; the likeliest first. */
  addrs: readonly string[];
  /** Clock time of the last link; null if there never was one in this run. */
  lastSeenMs: number | null;
  readonly addedMs: number;
}

export interface PeerBookInit {
  readonly self: NodeId;
  readonly meta: MetaStore;
  readonly clock: Clock;
  /** Only members are worth an address. */
  readonly mayKnow: (id: NodeId) => boolean;
  readonly onAdded: (peer: KnownPeer) => void;
  readonly onDropped: (id: NodeId) => void;
  /** The book could not be written; the node works on without it. */
  readonly onSaveError: (error: Error) => void;
}

/** The address without /p2p/ID in its canonical text; null if it can't be dialled. */
function plainAddr(addr: string): string | null {
  try {
    const text = multiaddr(addr)
      .toString()
      .replace(/\/p2p\/[^/]+$/, "");
    return DIALABLE.test(text) && text.length <= transportLimits.addrCharsMax ? text : null;
  } catch {
    return null;
  }
}

export class PeerBook {
  readonly #init: PeerBookInit;
  /** In the order of being seen, the most recent last. */
  readonly #peers = new Map<NodeId, KnownPeer>();
  #saveTimer: Timer | null = null;
  #saving: Promise<void> = Promise.resolve();

  constructor(init: PeerBookInit) {
    this.#init = init;
  }

  /** Takes in the stored peers. Damaged bytes are dropped: they only cost the way back. */
  load(): void {
    const stored = this.#init.meta.get(META_KEY);
    if (stored === undefined) return;
    try {
      for (const { id, addrs } of peersCodec.decode(stored)) this.learn(id, addrs);
    } catch (error) {
      this.#init.onSaveError(error as Error);
    }
  }

  all(): KnownPeer[] {
    return [...this.#peers.values()];
  }

  get(id: NodeId): KnownPeer | undefined {
    return this.#peers.get(id);
  }

  /** Addresses that somebody told. New ones are tried after the known ones. */
  learn(id: NodeId, addrs: readonly string[]): boolean {
    return this.#merge(id, addrs, { first: false });
  }

  /** Addresses of a peer that this node reached, or that the peer gave itself on its link. */
  seen(id: NodeId, addrs: readonly string[]): boolean {
    const changed = this.#merge(id, addrs, { first: true });
    const peer = this.#peers.get(id);
    if (peer === undefined) return changed;
    peer.lastSeenMs = this.#init.clock.now();
    this.#peers.delete(id);
    this.#peers.set(id, peer);
    return changed;
  }

  #merge(id: NodeId, addrs: readonly string[], options: { first: boolean }): boolean {
    if (id === this.#init.self || !isNodeId(id) || !this.#init.mayKnow(id)) return false;
    const given = addrs.map(plainAddr).filter((addr) => addr !== null);
    const known = this.#peers.get(id);
    if (known === undefined) return this.#add(id, [...new Set(given)]);
    const order = options.first ? [...given, ...known.addrs] : [...known.addrs, ...given];
    const merged = [...new Set(order)].slice(0, transportLimits.peerAddrsMax);
    const before = new Set(known.addrs);
    const changed = merged.some((addr) => !before.has(addr));
    known.addrs = merged;
    if (changed) this.#saveSoon();
    return changed;
  }

  #add(id: NodeId, addrs: readonly string[]): boolean {
    if (this.#peers.size >= transportLimits.peersMax) {
      const oldest = this.all().find(({ lastSeenMs }) => lastSeenMs === null);
      if (oldest === undefined) return false;
      this.drop(oldest.id);
    }
    const peer: KnownPeer = {
      id,
      addrs: addrs.slice(0, transportLimits.peerAddrsMax),
      lastSeenMs: null,
      addedMs: this.#init.clock.now(),
    };
    this.#peers.set(id, peer);
    this.#saveSoon();
    this.#init.onAdded(peer);
    return true;
  }

  drop(id: NodeId): void {
    if (!this.#peers.delete(id)) return;
    this.#saveSoon();
    this.#init.onDropped(id);
  }

  /** What this node tells a peer about the others. */
  told(ids?: readonly NodeId[]): Uint8Array {
    const peers = ids === undefined ? this.all() : this.all().filter(({ id }) => ids.includes(id));
    return peersCodec.encode(
      peers
        .filter(({ lastSeenMs, addrs }) => lastSeenMs !== null && addrs.length > 0)
        .map(({ id, addrs }) => ({ id, addrs: addrs.slice(0, TOLD_ADDRS_MAX) })),
    );
  }

  /** Takes in what a peer told; throws SchemaError. */
  hear(payload: Uint8Array): void {
    for (const { id, addrs } of peersCodec.decode(payload)) this.learn(id, addrs);
  }

  #saveSoon(): void {
    this.#saveTimer ??= this.#init.clock.after(SAVE_DELAY_MS, () => this.#save());
  }

  #save(): void {
    this.#saveTimer = null;
    const peers = this.all().map(({ id, addrs }) => ({ id, addrs: [...addrs] }));
    this.#saving = this.#init.meta
      .put(META_KEY, peersCodec.encode(peers))
      .catch((error: Error) => this.#init.onSaveError(error));
  }

  async stop(): Promise<void> {
    if (this.#saveTimer !== null) {
      this.#saveTimer.cancel();
      this.#save();
    }
    await this.#saving;
  }
}
