/**
 * Keeps a link to every known peer: dials, opens the link, waits until it breaks, begins again. The
 * peer with the lower id dials first and the other one leaves it a moment; dials at the same moment
 * make two connections, which do no harm because only the lower one opens the link.
 */

import type { Connection, Libp2p } from "@libp2p/interface";
import { peerIdFromString } from "@libp2p/peer-id";
import { multiaddr } from "@multiformats/multiaddr";
import type { Clock } from "../clock.ts";
import type { Counters } from "../counters.ts";
import { transportLimits } from "../limits.ts";
import type { NodeId, Prng } from "../raft/types.ts";
import type { Links } from "./links.ts";
import type { KnownPeer } from "./peer_book.ts";

export interface PeerKeeperInit {
  readonly libp2p: Libp2p;
  readonly links: Links;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly counters: Counters;
}

interface Kept {
  readonly peer: KnownPeer;
  readonly abort: AbortController;
  readonly task: Promise<void>;
  wake: () => void;
}

export class PeerKeeper {
  readonly #init: PeerKeeperInit;
  readonly #self: NodeId;
  readonly #kept = new Map<NodeId, Kept>();
  readonly #lastFailure = new Map<NodeId, string>();
  readonly #stopping = new AbortController();

  constructor(init: PeerKeeperInit) {
    this.#init = init;
    this.#self = init.libp2p.peerId.toString();
  }

  add(peer: KnownPeer): void {
    if (this.#kept.has(peer.id) || this.#stopping.signal.aborted) return;
    const abort = new AbortController();
    const start = Promise.withResolvers<void>();
    const task = start.promise.then(() => this.#keep(kept));
    const kept: Kept = { peer, abort, task, wake: () => {} };
    this.#kept.set(peer.id, kept);
    start.resolve();
  }

  remove(id: NodeId): void {
    this.#kept.get(id)?.abort.abort(new Error("the peer was dropped"));
    this.#kept.delete(id);
    this.#lastFailure.delete(id);
  }

  /** Something happened to this peer: a connection came, the link came or went. */
  wake(id: NodeId): void {
    this.#kept.get(id)?.wake();
  }

  /** Why the last attempt to reach this peer failed. */
  lastFailure(id: NodeId): string | null {
    return this.#lastFailure.get(id) ?? null;
  }

  async stop(): Promise<void> {
    const tasks = [...this.#kept.values()].map(({ abort, task }) => {
      abort.abort(new Error("the node is stopping"));
      return task;
    });
    this.#stopping.abort();
    await Promise.all(tasks);
  }

  async #keep(kept: Kept): Promise<void> {
    const { signal } = kept.abort;
    let failures = 0;
    if (this.#self > kept.peer.id) await this.#pause(kept, transportLimits.redialCourtesyMs);
    while (!signal.aborted) {
      if (this.#init.links.get(kept.peer.id) !== undefined) {
        failures = 0;
        await this.#pause(kept, null);
        continue;
      }
      try {
        await this.#attempt(kept);
        this.#lastFailure.delete(kept.peer.id);
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        this.#init.counters.add("dial_failures");
        this.#lastFailure.set(kept.peer.id, error instanceof Error ? error.message : String(error));
        await this.#pause(kept, this.#backoffMs(kept.peer, failures));
      }
    }
  }

  #backoffMs(peer: KnownPeer, failures: number): number {
    const { redialFirstMs, redialFactor, redialMaxMs, redialLostMs, peerLostMs } = transportLimits;
    const jitter = 0.5 + this.#init.prng.next();
    const since = this.#init.clock.now() - (peer.lastSeenMs ?? peer.addedMs);
    const growth = redialFirstMs * redialFactor ** Math.min(failures - 1, 30);
    const capMs = since < peerLostMs ? redialMaxMs : redialLostMs;
    return Math.min(growth, capMs) * jitter;
  }

  /** Waits; ends early when woken or stopped. */
  async #pause(kept: Kept, delayMs: number | null): Promise<void> {
    const { signal } = kept.abort;
    if (signal.aborted) return;
    const woken = Promise.withResolvers<void>();
    kept.wake = woken.resolve;
    signal.addEventListener("abort", kept.wake, { once: true });
    const timer = delayMs === null ? null : this.#init.clock.after(delayMs, kept.wake);
    await woken.promise;
    timer?.cancel();
    signal.removeEventListener("abort", woken.resolve as () => void);
    kept.wake = () => {};
  }

  async #attempt(kept: Kept): Promise<void> {
    const { id } = kept.peer;
    const connection = this.#connection(id) ?? (await this.#dial(kept));
    if (this.#init.links.get(id) !== undefined) return;
    const { linkHandshakeMs } = transportLimits;
    const limit = AbortSignal.timeout(linkHandshakeMs);
    const signal = AbortSignal.any([kept.abort.signal, limit]);
    if (this.#self < id) {
      await this.#init.links.open(id, connection, signal);
      return;
    }
    await this.#pause(kept, linkHandshakeMs);
    if (this.#init.links.get(id) !== undefined || this.#connection(id) === undefined) return;
    if (connection.status !== "open") return;
    // The far end should have opened the link long ago: begin with a new connection.
    connection.abort(new Error("no link was opened in time"));
    throw new Error("the peer opened no link in time");
  }

  #connection(id: NodeId): Connection | undefined {
    const open = this.#init.libp2p.getConnections(peerIdFromString(id));
    return open.find(({ status }) => status === "open");
  }

  async #dial(kept: Kept): Promise<Connection> {
    const { id, addrs } = kept.peer;
    if (addrs.length === 0) throw new Error("no address is known");
    const limit = AbortSignal.timeout(transportLimits.dialTimeoutMs);
    return this.#init.libp2p.dial(
      addrs.map((addr) => multiaddr(`${addr}/p2p/${id}`)),
      { signal: AbortSignal.any([kept.abort.signal, limit]) },
    );
  }
}
