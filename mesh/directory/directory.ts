/**
 * What nodes tell each other about themselves and the VMs they hold: names, addresses, capacity,
 * roles. Hints, never the truth: the truth about a VM is in its group. Announcements are signed by
 * their sender, bounded, and forgotten when they are not repeated.
 */

import type { Message } from "@libp2p/gossipsub";
import { Type } from "@sinclair/typebox";
import { Codec } from "../cbor.ts";
import { type Clock, systemClock, type Timer } from "../clock.ts";
import { type MeshLog, silentLog } from "../counters.ts";
import { directoryLimits, transportLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import type { MeshNode } from "../transport/mesh_node.ts";

const TOPIC = "node-mesh/directory/1";

const text = (maxLength: number) => Type.String({ maxLength });
const count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

const vmSchema = Type.Object({
  id: text(128),
  name: text(128),
  specHash: text(128),
  role: text(32),
  term: count,
  leader: Type.Union([text(128), Type.Null()]),
  position: count,
  state: text(32),
});

const announcementCodec = new Codec(
  "announcement",
  Type.Object({
    /** Start of the sender's run, then a counter: later ones win. */
    epoch: count,
    sequence: count,
    name: text(128),
    addrs: Type.Array(text(transportLimits.addrCharsMax), {
      maxItems: transportLimits.peerAddrsMax,
    }),
    version: Type.Union([text(64), Type.Null()]),
    capacity: Type.Record(Type.String({ pattern: "^[a-z0-9_]{1,40}$" }), Type.Number(), {
      maxProperties: 32,
    }),
    /** Words about the node: its failure domain, what it is good for. */
    labels: Type.Record(Type.String({ pattern: "^[a-z0-9_-]{1,32}$" }), text(64), {
      maxProperties: 16,
    }),
    vms: Type.Array(vmSchema, { maxItems: directoryLimits.vmsPerNodeMax }),
  }),
);

export interface VmHint {
  readonly id: string;
  readonly name: string;
  readonly specHash: string;
  readonly role: string;
  readonly term: number;
  readonly leader: NodeId | null;
  readonly position: number;
  readonly state: string;
}

export interface NodeState {
  readonly version?: string;
  readonly capacity?: Readonly<Record<string, number>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly vms: readonly VmHint[];
}

export interface NodeHint {
  readonly id: NodeId;
  readonly name: string;
  readonly addrs: readonly string[];
  readonly version: string | null;
  readonly capacity: Readonly<Record<string, number>>;
  readonly labels: Readonly<Record<string, string>>;
  /** Since the last announcement; 0 for this node. */
  readonly sinceSeenMs: number;
  readonly connected: boolean;
}

export interface DirectoryInit {
  readonly node: MeshNode;
  readonly name: string;
  readonly clock?: Clock;
  readonly log?: MeshLog;
}

interface Heard {
  readonly epoch: number;
  readonly sequence: number;
  readonly hint: Omit<NodeHint, "sinceSeenMs" | "connected">;
  readonly vms: readonly VmHint[];
  readonly atMs: number;
}

export class Directory {
  readonly #init: DirectoryInit;
  readonly #clock: Clock;
  readonly #log: MeshLog;
  readonly #heard = new Map<NodeId, Heard>();
  // The wall clock only orders two runs of one node.
  readonly #epoch = Math.max(0, Math.floor(Date.now()));
  readonly #onMessage = (event: CustomEvent<Message>) => this.#hear(event.detail);
  readonly #timer: Timer;
  readonly #unsubscribe: () => void;
  #state: NodeState = { vms: [] };
  #sequence = 0;
  #isChanged = true;
  #sentMs = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(init: DirectoryInit) {
    this.#init = init;
    this.#clock = init.clock ?? systemClock();
    this.#log = init.log ?? silentLog;
    const { pubsub } = init.node.libp2p.services;
    pubsub.subscribe(TOPIC);
    pubsub.addEventListener("message", this.#onMessage);
    this.#timer = this.#clock.every(directoryLimits.announceMinMs / 4, () => this.#tick());
    // A newcomer should not have to wait for the next round.
    this.#unsubscribe = init.node.onPeer(({ kind }) => {
      if (kind === "up") this.#isChanged = true;
    });
  }

  /** What this node says of itself from now on. */
  announce(state: NodeState): void {
    this.#state = state;
    this.#isChanged = true;
  }

  /** All nodes heard of lately, and this one. */
  nodes(): NodeHint[] {
    const now = this.#clock.now();
    const { node } = this.#init;
    const { version, capacity, labels } = this.#state;
    const self: NodeHint = {
      id: node.id,
      name: this.#init.name,
      addrs: node.addresses(),
      version: version ?? null,
      capacity: capacity ?? {},
      labels: labels ?? {},
      sinceSeenMs: 0,
      connected: true,
    };
    const others = [...this.#heard.values()].map(({ hint, atMs }) => ({
      ...hint,
      sinceSeenMs: now - atMs,
      connected: node.isConnected(hint.id),
    }));
    return [self, ...others];
  }

  /** One row for each VM and node that holds a part of it. */
  vms(): (VmHint & { readonly node: NodeId })[] {
    const own = this.#state.vms.map((vm) => ({ ...vm, node: this.#init.node.id }));
    const others = [...this.#heard.values()].flatMap(({ hint, vms }) =>
      vms.map((vm) => ({ ...vm, node: hint.id })),
    );
    return [...own, ...others];
  }

  #tick(): void {
    const now = this.#clock.now();
    for (const [id, { atMs }] of this.#heard) {
      if (now - atMs > directoryLimits.expireMs) this.#heard.delete(id);
    }
    const sinceMs = now - this.#sentMs;
    const { announceMinMs, announceMaxMs } = directoryLimits;
    if (sinceMs < (this.#isChanged ? announceMinMs : announceMaxMs)) return;
    this.#sentMs = now;
    this.#isChanged = false;
    this.#send().catch((error: Error) => {
      this.#log.debug({ error: error.message }, "An announcement could not be sent");
    });
  }

  async #send(): Promise<void> {
    if (this.#stopped) return;
    const { node, name } = this.#init;
    const { version, capacity, labels, vms } = this.#state;
    this.#sequence += 1;
    const announcement = {
      epoch: this.#epoch,
      sequence: this.#sequence,
      name: name.slice(0, 128),
      addrs: node.addresses(),
      version: version ?? null,
      capacity: { ...capacity },
      labels: { ...labels },
      vms: vms.slice(0, directoryLimits.vmsPerNodeMax).map((vm) => ({ ...vm })),
    };
    let bytes = announcementCodec.encode(announcementCodec.check(announcement));
    while (bytes.length > directoryLimits.messageBytesMax && announcement.vms.length > 0) {
      announcement.vms.length = Math.floor(announcement.vms.length / 2);
      bytes = announcementCodec.encode(announcement);
    }
    await node.libp2p.services.pubsub.publish(TOPIC, bytes);
  }

  #hear(message: Message): void {
    if (this.#stopped || message.topic !== TOPIC || message.type !== "signed") return;
    const id = message.from.toString();
    const { node } = this.#init;
    if (id === node.id) return;
    try {
      if (!node.isMember(id)) throw new Error("it is not a member");
      if (message.data.length > directoryLimits.messageBytesMax) {
        throw new RangeError(`an announcement of ${message.data.length} bytes`);
      }
      this.#take(id, message.data);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const line = `Refused an announcement of ${id}: ${why}`;
      node.refusals.note("announcements_refused", { peer: id }, line);
    }
  }

  #take(id: NodeId, data: Uint8Array): void {
    const said = announcementCodec.decode(data);
    const last = this.#heard.get(id);
    const isOld =
      last !== undefined &&
      (said.epoch < last.epoch || (said.epoch === last.epoch && said.sequence <= last.sequence));
    if (isOld) return;
    if (last === undefined && this.#heard.size >= directoryLimits.nodesMax) return;
    const { epoch, sequence, name, addrs, version, capacity, labels, vms } = said;
    const hint = { id, name, addrs, version, capacity, labels };
    this.#heard.set(id, { epoch, sequence, hint, vms, atMs: this.#clock.now() });
    this.#init.node.learnPeer(id, addrs);
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#timer.cancel();
    this.#unsubscribe();
    const { pubsub } = this.#init.node.libp2p.services;
    pubsub.removeEventListener("message", this.#onMessage);
  }
}
