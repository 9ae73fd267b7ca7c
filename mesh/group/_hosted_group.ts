/**
 * One group on this node: the core, its log, its delivery, and what is under way between them. It
 * does what a Ready says in the order in which it must be done: nothing that follows from a write
 * leaves before the write is durable. When its storage fails it falls silent: it can't acknowledge
 * anything.
 */

import type { Clock, Timer } from "../clock.ts";
import { groupLimits } from "../limits.ts";
import { decodeMembers, RaftCore } from "../raft/mod.ts";
import type { Entry, Member, Message, NodeId, Prng, Ready, SoftState } from "../raft/types.ts";
import type { LoadedGroup, LogStore } from "../storage/log_store.ts";
import type { LogCut } from "../storage/types.ts";
import { CommitLatency } from "./_latency.ts";
import type { Outbox } from "./_outbox.ts";
import { Delivery } from "./delivery.ts";
import type { Group, GroupHandler, GroupSeed, GroupStatus, Proposal, RoleState } from "./types.ts";

/** Durable entries that the core keeps; the log's own tail and the database have the rest. */
const CORE_TAIL_BYTES = 256 * 1024;

export interface HostedGroupInit {
  readonly self: NodeId;
  readonly loaded: LoadedGroup;
  readonly handler: GroupHandler;
  readonly store: LogStore;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly isConnected: (id: NodeId) => boolean;
  /** The core may have something to do: calls `pass` soon. */
  readonly onDirty: (group: HostedGroup) => void;
  readonly onFailed: (group: HostedGroup, error: Error) => void;
  readonly onClose: (group: HostedGroup) => Promise<void>;
  readonly onLeave: (group: HostedGroup) => Promise<void>;
  readonly onDestroy: (group: HostedGroup) => Promise<void>;
}

interface ReadyUnderWay {
  readonly number: number;
  readonly messages: readonly Message[];
  isDurable: boolean;
}

export class HostedGroup implements Group {
  readonly id: string;
  readonly info: Uint8Array;
  readonly #init: HostedGroupInit;
  readonly #core: RaftCore;
  readonly #delivery: Delivery;
  readonly #latency = new CommitLatency();
  /** Readys whose messages wait for the disk, oldest first. */
  readonly #underWay: ReadyUnderWay[] = [];
  #handedIndex: number;
  #base: LogCut | null;
  /** Those at the base. */
  #baseMembers: readonly Member[];
  #role: RoleState;
  #campaignTimer: Timer | null = null;
  #failed: Error | null = null;
  #closed = false;

  constructor(init: HostedGroupInit) {
    const { loaded, self, prng } = init;
    this.#init = init;
    this.id = loaded.id;
    this.info = loaded.info;
    this.#base = loaded.cut;
    this.#baseMembers = loaded.members;
    const cut = loaded.log.firstIndex - 1;
    this.#handedIndex = Math.max(cut, Math.min(loaded.hardState.commit, loaded.log.lastIndex));
    this.#core = new RaftCore({
      id: self,
      members: loaded.members,
      hardState: loaded.hardState,
      floor: loaded.floor,
      log: loaded.log,
      prng,
      // Older committed entries are delivered from storage.
      applied: this.#handedIndex,
      limits: { tailBytesMax: CORE_TAIL_BYTES },
    });
    this.#delivery = new Delivery({
      begin: () => loaded.log.firstIndex,
      handle: (entries) => init.handler.onCommitted(entries),
      fetch: (from, to) => loaded.log.fetch(from, { to, bytesMax: groupLimits.deliveryBytesMax }),
      onDelivered: () => this.#updateRole(),
      onError: (error) => this.fail(error),
    });
    this.#role = { ...this.#core.soft, readyToLead: false };
  }

  /** Begins: tells the handler the role, and delivers what is known to be committed. */
  start(): void {
    for (const { id } of this.#core.members) {
      if (id !== this.#init.self && !this.#init.isConnected(id)) this.#core.unreachable(id);
    }
    this.#init.handler.onRole(this.#role);
    this.#delivery.offer([], this.#readable());
    this.#init.onDirty(this);
  }

  get members(): readonly Member[] {
    return this.#core.members;
  }

  get membersIndex(): number {
    return this.#core.membersIndex;
  }

  get base(): LogCut | null {
    return this.#base;
  }

  get soft(): SoftState {
    return this.#core.soft;
  }

  get isActive(): boolean {
    return !this.#closed && this.#failed === null;
  }

  /** Runs something of the core. What it throws is a broken invariant: the group stops. */
  #drive(work: () => void): void {
    if (!this.isActive) return;
    try {
      work();
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#init.onDirty(this);
  }

  step(message: Message): void {
    this.#drive(() => {
      this.#core.step(message);
      const { leader } = this.#core.soft;
      if (leader === message.from && this.#init.isConnected(leader)) this.#cancelCampaign();
    });
  }

  tick(): void {
    this.#drive(() => this.#core.tick());
  }

  stalled(): void {
    this.#cancelCampaign();
    this.#drive(() => this.#core.stalled());
  }

  peerUp(id: NodeId): void {
    if (this.#core.soft.leader === id) this.#cancelCampaign();
    this.#drive(() => this.#core.reachable(id));
  }

  /** The connection closed. If it was the leader's, somebody should ask for votes soon. */
  peerDown(id: NodeId): void {
    this.#drive(() => this.#core.unreachable(id));
    const { leader, role } = this.#core.soft;
    if (leader !== id || role === "leader" || !this.isActive) return;
    const { fastElectionMinMs, fastElectionMaxMs } = groupLimits;
    // Replicas first: a witness that leads can only hand over.
    const extraMs = this.#isWitness ? fastElectionMaxMs : 0;
    this.#campaignAfter(this.#between(fastElectionMinMs, fastElectionMaxMs) + extraMs, 0);
  }

  /** Asks for votes later unless a leader is heard by then; again when the votes were split. */
  #campaignAfter(delayMs: number, tries: number): void {
    const { fastElectionTriesMax, fastElectionAgainMinMs, fastElectionAgainMaxMs } = groupLimits;
    this.#cancelCampaign();
    if (tries >= fastElectionTriesMax) return;
    this.#campaignTimer = this.#init.clock.after(delayMs, () => {
      this.#campaignTimer = null;
      const { leader } = this.#core.soft;
      if (leader === this.#init.self) return;
      if (leader !== null && this.#init.isConnected(leader)) return;
      this.#drive(() => this.#core.campaignNow());
      const againMs = this.#between(fastElectionAgainMinMs, fastElectionAgainMaxMs);
      this.#campaignAfter(againMs, tries + 1);
    });
  }

  #between(min: number, max: number): number {
    return min + this.#init.prng.next() * (max - min);
  }

  get #isWitness(): boolean {
    return this.members.some(({ id, role }) => id === this.#init.self && role === "witness");
  }

  #cancelCampaign(): void {
    this.#campaignTimer?.cancel();
    this.#campaignTimer = null;
  }

  /** The transport refused an append: it has to be sent again later. */
  appendDropped(to: NodeId): void {
    this.#drive(() => this.#core.unreachable(to));
  }

  /** Peers whose link works although an append to them was dropped. */
  retry(): void {
    this.#drive(() => {
      for (const { id } of this.members) {
        if (this.#init.isConnected(id)) this.#core.reachable(id);
      }
    });
  }

  /** Entries of an old range that the core asked for are in memory now. */
  logLoaded(): void {
    this.#drive(() => this.#core.logLoaded());
  }

  /** Does what the core wants done. Writes are handed to `writes`, so that the owner can wait. */
  pass(writes: Promise<void>[]): void {
    while (this.isActive && this.#core.hasReady()) {
      try {
        this.#handle(this.#core.ready(), writes);
      } catch (error) {
        this.fail(error instanceof Error ? error : new Error(String(error)));
      }
    }
  }

  #handle(ready: Ready, writes: Promise<void>[]): void {
    this.#send(ready.messagesNow);
    const { hardState, entries, number } = ready;
    const underWay: ReadyUnderWay = { number, messages: ready.messages, isDurable: false };
    this.#underWay.push(underWay);
    if (ready.mustSync) {
      const write = this.#init.store.append(this.id, { hardState, entries });
      writes.push(
        write.then(
          () => this.#onDurable(underWay),
          (error: Error) => this.fail(error),
        ),
      );
    } else {
      if (hardState !== null) this.#init.store.noteCommit(this.id, hardState.commit);
      underWay.isDurable = true;
    }
    this.#handedIndex = ready.committed.at(-1)?.index ?? this.#handedIndex;
    this.#finishDurable();
    if (ready.committed.length > 0) {
      const report = (ms: number) => this.#init.handler.onCommitLatency?.(ms);
      this.#latency.committed(this.#handedIndex, { now: this.#init.clock.now(), report });
    }
    this.#updateRole();
    this.#deliver(ready.committed);
  }

  #onDurable(underWay: ReadyUnderWay): void {
    underWay.isDurable = true;
    this.#drive(() => {
      this.#finishDurable();
      this.#deliver([]);
    });
  }

  /** Sends what waited for the disk, strictly in order, and tells the core. */
  #finishDurable(): void {
    let newest = 0;
    while (this.#underWay[0]?.isDurable) {
      const { number, messages } = this.#underWay.shift()!;
      newest = number;
      this.#send(messages);
    }
    // What was handed out counts as applied: this class has its own bounded queue and storage.
    this.#core.advance(newest, this.#handedIndex);
  }

  #send(messages: readonly Message[]): void {
    for (const message of messages) {
      this.#init.outbox.add(message.to, { groupId: this.id, message });
    }
  }

  /** Storage has the committed version of all entries up to here. */
  #readable(): number {
    return Math.min(this.#core.soft.commit, this.#core.persistedIndex);
  }

  #deliver(entries: readonly Entry[]): void {
    this.#delivery.offer(entries, this.#readable());
  }

  #updateRole(): void {
    const { soft } = this.#core;
    const { delivered } = this.#delivery;
    const readyToLead =
      soft.role === "leader" && delivered > 0 && this.#core.termAt(delivered) === soft.term;
    const before = this.#role;
    const isSame =
      before.role === soft.role &&
      before.leader === soft.leader &&
      before.term === soft.term &&
      before.readyToLead === readyToLead;
    if (isSame || !this.isActive) return;
    if (soft.role !== "leader") this.#latency.reset();
    this.#role = { ...soft, readyToLead };
    this.#notifyRole(this.#role);
  }

  #notifyRole(role: RoleState): void {
    try {
      this.#init.handler.onRole(role);
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  propose(data: Uint8Array): Proposal | null {
    if (!this.isActive) return null;
    const index = this.#core.propose(data);
    if (index === null) return null;
    this.#latency.proposed(index, this.#init.clock.now());
    this.#init.onDirty(this);
    return { index, term: this.#core.soft.term };
  }

  changeMembers(members: readonly Member[]): Proposal | null {
    if (!this.isActive) return null;
    const index = this.#core.proposeConfig(members);
    if (index === null) return null;
    this.#init.onDirty(this);
    return { index, term: this.#core.soft.term };
  }

  seedAt(index: number): GroupSeed | null {
    const { log } = this.#init.loaded;
    if (index < log.firstIndex - 1 || index > this.#delivery.delivered) return null;
    const entry = log.configs.findLast((config) => config.index <= index);
    const members = entry === undefined ? this.#baseMembers : decodeMembers(entry.data);
    return members === null ? null : { index, term: log.term(index), members };
  }

  async cut(index: number, checkpoint: string): Promise<boolean> {
    const seed = this.seedAt(index);
    const { log } = this.#init.loaded;
    if (!this.isActive || seed === null || index < log.firstIndex) return false;
    const base = { index, term: seed.term, checkpoint };
    await this.#init.store.cut(this.id, base, seed.members);
    this.#base = base;
    this.#baseMembers = seed.members;
    return true;
  }

  transferLeadership(to: NodeId): boolean {
    if (!this.isActive) return false;
    const isBegun = this.#core.transferLeadership(to);
    this.#init.onDirty(this);
    return isBegun;
  }

  campaign(): void {
    this.#drive(() => this.#core.campaignNow());
  }

  redeliver(): void {
    if (!this.isActive) return;
    this.#delivery.restart();
    this.#updateRole();
  }

  status(): GroupStatus {
    const soft: SoftState = this.#core.soft;
    return {
      role: soft.role,
      leader: soft.leader,
      term: soft.term,
      commit: soft.commit,
      delivered: this.#delivery.delivered,
      lastIndex: soft.lastIndex,
      readyToLead: this.#role.readyToLead,
      failed: this.#failed?.message ?? null,
      commitLatencyMs: this.#latency.summary(),
      followers: this.#core.progress().map(({ id, match, recentActive, state }) => ({
        id,
        match,
        lagEntries: Math.max(0, soft.lastIndex - match),
        active: recentActive,
        needsSeed: state === "seed",
      })),
    };
  }

  /** Falls silent for good, and says why. */
  fail(error: Error): void {
    if (!this.isActive) return;
    this.#failed = error;
    this.#end();
    this.#init.onFailed(this, error);
    this.#init.handler.onError?.(error);
  }

  #end(): void {
    this.#cancelCampaign();
    this.#delivery.close();
    this.#underWay.length = 0;
  }

  /** Stops without waiting; for the owner. */
  halt(): void {
    this.#closed = true;
    this.#end();
  }

  close(): Promise<void> {
    return this.#init.onClose(this);
  }

  leave(): Promise<void> {
    return this.#init.onLeave(this);
  }

  destroy(): Promise<void> {
    return this.#init.onDestroy(this);
  }
}
