/**
 * All groups of a node: one clock for them, one storage commit for what they write in a turn, one
 * frame to each peer for what they send. A group takes part from `open` on. A destroyed group's id
 * is refused for ever, so that an old message cannot bring back a voter without its vote.
 */

import { type Clock, systemClock, type Timer } from "../clock.ts";
import { type MeshLog, type Refusals, silentLog } from "../counters.ts";
import { groupLimits, storageLimits } from "../limits.ts";
import { DEFAULT_LIMITS, whyBadMembers } from "../raft/mod.ts";
import type { Member, NodeId, Prng } from "../raft/types.ts";
import type { LogStore } from "../storage/log_store.ts";
import type { GroupTransport, PeerEvent } from "../transport/mesh_node.ts";
import { HostedGroup } from "./_hosted_group.ts";
import { Outbox } from "./_outbox.ts";
import { decodeRecords, type GroupRecord, isGroupId } from "./message_codec.ts";
import type { Group, GroupHandler, GroupInfo, GroupSeed } from "./types.ts";

export interface GroupHostInit {
  readonly store: LogStore;
  readonly transport: GroupTransport;
  readonly refusals: Refusals;
  readonly clock?: Clock;
  readonly prng?: Prng;
  readonly log?: MeshLog;
}

export interface GroupSpec {
  readonly groupId: string;
  readonly members: readonly Member[];
  /** Opaque; stored with the group. */
  readonly info: Uint8Array;
  /** This node is none of these first members: it is going to be added to them. */
  readonly joins?: boolean;
}

/** A member says that it has destroyed a group which is still open here. */
export type GoneListener = (groupId: string, from: NodeId) => void;

function isSameMembers(a: readonly Member[], b: readonly Member[]): boolean {
  const text = (members: readonly Member[]) =>
    members
      .map(({ id, role }) => `${id} ${role}`)
      .sort()
      .join();
  return text(a) === text(b);
}

export class GroupHost {
  readonly #init: GroupHostInit;
  readonly #clock: Clock;
  readonly #prng: Prng;
  readonly #log: MeshLog;
  readonly #outbox: Outbox;
  readonly #groups = new Map<string, HostedGroup>();
  readonly #opening = new Set<string>();
  readonly #dirty = new Set<HostedGroup>();
  /** Frames whose entries wait for the next pass: their memory is freed when that is durable. */
  #releases: (() => void)[] = [];
  readonly #retry = new Set<HostedGroup>();
  readonly #goneListeners = new Set<GoneListener>();
  readonly #goneSent = new Set<string>();
  readonly #ticker: Timer;
  readonly #unsubscribe: (() => void)[];
  #isPassDue = false;
  #isPassing = false;
  #lastTickMs: number;
  #stopped = false;

  constructor(init: GroupHostInit) {
    this.#init = init;
    this.#clock = init.clock ?? systemClock();
    this.#prng = init.prng ?? { next: Math.random };
    this.#log = init.log ?? silentLog;
    this.#outbox = new Outbox(init.transport, (groupId, to) => this.#onDropped(groupId, to));
    this.#unsubscribe = [
      init.transport.onGroupFrame((from, payload, release) =>
        this.#onFrame(from, payload, release),
      ),
      init.transport.onPeer((event) => this.#onPeer(event)),
    ];
    this.#lastTickMs = this.#clock.now();
    this.#ticker = this.#clock.every(groupLimits.tickMs, () => this.#tick());
  }

  get id(): NodeId {
    return this.#init.transport.id;
  }

  /** Stores a group; durable when resolved. The same again is fine. */
  async create(spec: GroupSpec): Promise<void> {
    const { groupId, members, info, joins } = spec;
    const bad = (why: string) => new TypeError(`Cannot create group "${groupId}": ${why}`);
    if (!isGroupId(groupId)) throw bad("the id must be letters, digits, '.', '_', ':' or '-'");
    const why = whyBadMembers(members, { ...DEFAULT_LIMITS, membersMax: groupLimits.membersMax });
    if (why !== null) throw bad(why);
    if (joins !== true && !members.some(({ id }) => id === this.id))
      throw bad("this node is not a member");
    if (info.length > storageLimits.groupInfoBytesMax) throw bad("its description is too long");
    const known = this.#init.store.find(groupId);
    if (known === undefined || known.fate === "left") {
      await this.#init.store.create(groupId, members, info);
      return;
    }
    if (known.fate === "destroyed")
      throw bad("a group of this id was destroyed here; choose another id");
    const isSame = isSameMembers(known.members, members) && Buffer.compare(known.info, info) === 0;
    if (!isSame) throw bad("another group of this id exists here");
  }

  /** Takes part from now on; `handler` gets all committed entries from index 1. */
  async open(groupId: string, handler: GroupHandler): Promise<Group> {
    const bad = (why: string) => new TypeError(`Cannot open group "${groupId}": ${why}`);
    if (this.#stopped) throw bad("the node is stopping");
    if (this.#groups.has(groupId) || this.#opening.has(groupId)) throw bad("it is open already");
    this.#opening.add(groupId);
    try {
      let group: HostedGroup | null = null;
      const loaded = await this.#init.store.load(groupId, {
        onLoaded: () => group?.logLoaded(),
        onError: (error) => group?.fail(error),
      });
      if (this.#stopped) throw bad("the node is stopping");
      group = new HostedGroup({
        self: this.id,
        loaded,
        handler,
        store: this.#init.store,
        outbox: this.#outbox,
        clock: this.#clock,
        prng: this.#prng,
        isConnected: (id) => this.#init.transport.isConnected(id),
        onDirty: (dirty) => this.#markDirty(dirty),
        onFailed: (failed, error) => this.#onFailed(failed, error),
        onClose: (closed) => this.#close(closed),
        onLeave: (left) => this.leave(left.id),
        onDestroy: (destroyed) => this.destroy(destroyed.id),
      });
      this.#groups.set(groupId, group);
      group.start();
      return group;
    } finally {
      this.#opening.delete(groupId);
    }
  }

  /** The open group of this id. */
  get(groupId: string): Group | undefined {
    return this.#groups.get(groupId);
  }

  /** All groups that are held here. */
  list(): GroupInfo[] {
    return this.#init.store
      .groups()
      .filter(({ fate }) => fate === "held")
      .map(({ id, members, info }) => {
        const open = this.#groups.get(id);
        return { id, members: open?.members ?? members, info, opened: open !== undefined };
      });
  }

  isDestroyed(groupId: string): boolean {
    return this.#init.store.find(groupId)?.fate === "destroyed";
  }

  /** Stops the group's part here, deletes its log, and refuses its id from now on. */
  async destroy(groupId: string): Promise<void> {
    const group = this.#groups.get(groupId);
    if (group !== undefined) this.#remove(group);
    await this.#init.store.destroy(groupId);
  }

  /** The same for a group that goes on without this node, which may be taken in again. */
  async leave(groupId: string): Promise<void> {
    const group = this.#groups.get(groupId);
    if (group !== undefined) this.#remove(group);
    await this.#init.store.leave(groupId);
  }

  /**
   * A checkpoint of another member takes the place of the log of a group, which must not be open.
   * What was committed before is in it.
   */
  async seed(groupId: string, seed: GroupSeed & { readonly checkpoint: string }): Promise<void> {
    const { index, term, members, checkpoint } = seed;
    const bad = (why: string) => new TypeError(`Cannot seed group "${groupId}": ${why}`);
    if (this.#groups.has(groupId) || this.#opening.has(groupId)) throw bad("it is open");
    const why = whyBadMembers(members, DEFAULT_LIMITS);
    if (why !== null) throw bad(why);
    await this.#init.store.seed(groupId, { index, term, checkpoint }, members);
  }

  /** A member told that it has destroyed a group that is open here. */
  onGone(listener: GoneListener): () => void {
    this.#goneListeners.add(listener);
    return () => this.#goneListeners.delete(listener);
  }

  async #close(group: HostedGroup): Promise<void> {
    this.#remove(group);
    await this.#init.store.flush();
  }

  #remove(group: HostedGroup): void {
    group.halt();
    if (this.#groups.get(group.id) === group) this.#groups.delete(group.id);
    this.#dirty.delete(group);
    this.#retry.delete(group);
  }

  #onFailed(group: HostedGroup, error: Error): void {
    this.#init.refusals.counters.add("groups_failed");
    this.#log.error({ group: group.id, error: error.message }, "A group stopped on this node");
  }

  #onFrame(from: NodeId, payload: Uint8Array, release: () => void): void {
    let records: GroupRecord[];
    try {
      records = decodeRecords(payload, { from, to: this.id });
    } catch (error) {
      release();
      const why = error instanceof Error ? error.message : String(error);
      const message = `Refused group messages of ${from}: ${why}`;
      this.#init.refusals.note("group_frames_refused", { peer: from }, message);
      return;
    }
    for (const record of records) this.#onRecord(from, record);
    this.#releases.push(release);
    // Not at the end of the turn: an append is on its way to the disk, and a commit to whoever
    // waits for it, before the layers below have tidied up behind the frame.
    this.#isPassDue = true;
    this.#pass();
  }

  #onRecord(from: NodeId, record: GroupRecord): void {
    const group = this.#groups.get(record.groupId);
    if ("gone" in record) {
      if (group === undefined || !group.members.some(({ id }) => id === from)) return;
      for (const listener of this.#goneListeners) listener(record.groupId, from);
      return;
    }
    if (group !== undefined) {
      group.step(record.message);
      return;
    }
    if (!this.isDestroyed(record.groupId)) {
      this.#init.refusals.counters.add("group_messages_unknown");
      return;
    }
    this.#init.refusals.counters.add("group_messages_destroyed");
    // Once a second is enough to tell a member that slept through the end of the group.
    const key = `${record.groupId} ${from}`;
    if (this.#goneSent.has(key) || this.#goneSent.size >= storageLimits.deleteRowsMax) return;
    this.#goneSent.add(key);
    this.#clock.after(1_000, () => this.#goneSent.delete(key));
    this.#outbox.add(from, { groupId: record.groupId, gone: true });
  }

  #onPeer(event: PeerEvent): void {
    for (const group of this.#groups.values()) {
      if (!group.members.some(({ id }) => id === event.id)) continue;
      if (event.kind === "up") group.peerUp(event.id);
      else group.peerDown(event.id);
    }
  }

  #onDropped(groupId: string, to: NodeId): void {
    this.#init.refusals.counters.add("appends_dropped");
    const group = this.#groups.get(groupId);
    if (group === undefined) return;
    group.appendDropped(to);
    this.#retry.add(group);
  }

  #tick(): void {
    const now = this.#clock.now();
    const lateMs = now - this.#lastTickMs - groupLimits.tickMs;
    this.#lastTickMs = now;
    if (lateMs > groupLimits.stallMs) {
      // What the peers sent meanwhile has not been read yet.
      this.#init.refusals.counters.add("event_loop_stalls");
      this.#log.warn({ lateMs: Math.round(lateMs) }, "This process stood still");
      for (const group of this.#groups.values()) group.stalled();
      return;
    }
    for (const group of this.#retry) group.retry();
    this.#retry.clear();
    for (const group of this.#groups.values()) group.tick();
  }

  #markDirty(group: HostedGroup): void {
    this.#dirty.add(group);
    this.#schedulePass();
  }

  // At the end of this turn: what is proposed in one goes out together.
  #schedulePass(): void {
    if (this.#isPassDue || this.#stopped) return;
    this.#isPassDue = true;
    queueMicrotask(() => this.#pass());
  }

  #pass(): void {
    // One that was scheduled may find its work done; one inside of another is done by that one.
    if (!this.#isPassDue || this.#isPassing || this.#stopped) return;
    this.#isPassing = true;
    try {
      while (this.#isPassDue) {
        this.#isPassDue = false;
        this.#passOnce();
      }
    } finally {
      this.#isPassing = false;
    }
  }

  #passOnce(): void {
    const groups = [...this.#dirty];
    this.#dirty.clear();
    const releases = this.#releases;
    this.#releases = [];
    const writes: Promise<void>[] = [];
    for (const group of groups) group.pass(writes);
    this.#outbox.flush();
    // Appends first: a follower's way to its disk and back is the longer one.
    this.#init.store.begin();
    if (releases.length === 0) return;
    const free = () => {
      for (const release of releases) release();
    };
    if (writes.length === 0) free();
    else void Promise.all(writes).then(free);
  }

  /** All groups fall silent; their durable state stays. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#ticker.cancel();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    for (const group of [...this.#groups.values()]) this.#remove(group);
    for (const release of this.#releases.splice(0)) release();
    await this.#init.store.flush();
  }
}
