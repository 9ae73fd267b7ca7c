/**
 * One server of one Raft group, without any I/O: ticks and messages go in, Readys come out. This
 * file is the face that its owner sees; each subject is in the file named after it. It must never
 * wait or read a clock, and it throws only at its owner's mistakes, never at what a peer sent.
 */

import { appendOwn } from "./_commit.ts";
import { campaignNow, tickElection } from "./_election.ts";
import { tickLeader, transferLeadership } from "./_leadership.ts";
import { RaftLog } from "./_raft_log.ts";
import { ReadyMaker } from "./_ready.ts";
import { RaftState } from "./_state.ts";
import { step } from "./_step.ts";
import { DEFAULT_LIMITS, type RaftLimits } from "./limits.ts";
import {
  countChanges,
  decodeMembers,
  encodeMembers,
  Membership,
  whyBadMembers,
} from "./membership.ts";
import type { RefusalCounts } from "./refusals.ts";
import { SAFETY_RULES, type SafetyRules } from "./safety_rules.ts";
import type {
  FollowerProgress,
  HardState,
  LogReader,
  Member,
  Message,
  NodeId,
  Prng,
  Ready,
  SoftState,
  VoteFloor,
} from "./types.ts";

export interface RaftCoreOptions {
  readonly id: NodeId;
  /** In force before the first stored entry; memberships in the log replace them. */
  readonly members: readonly Member[];
  /** Null for a group that has never run here. */
  readonly hardState: HardState | null;
  readonly log: LogReader;
  readonly prng: Prng;
  readonly limits?: Partial<RaftLimits>;
  /** Entries up to here are applied already; default: what was cut. */
  readonly applied?: number;
  /** Where a former log of this server ended; null or absent if it never gave one up. */
  readonly floor?: VoteFloor | null;
  /** Only the simulator passes rules: broken ones, to test its checkers. */
  readonly rules?: SafetyRules;
}

export class RaftCore {
  readonly #s: RaftState;
  readonly #readies: ReadyMaker;
  #softShown: SoftState;

  constructor(options: RaftCoreOptions) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const why = whyBadMembers(options.members, limits);
    if (why !== null) throw new RangeError(`Cannot make a group of these members: ${why}`);
    const hardState = options.hardState ?? { term: 0, votedFor: null, commit: 0 };
    const rules = options.rules ?? SAFETY_RULES;
    const log = new RaftLog(options.log, hardState.commit, { limits, rules });
    if (hardState.term < log.lastTerm) {
      const last = `the log ends with term ${log.lastTerm}`;
      throw new RangeError(`Cannot start with term "${hardState.term}": ${last}`);
    }
    this.#s = new RaftState({
      id: options.id,
      term: hardState.term,
      votedFor: hardState.votedFor,
      log,
      floor: options.floor ?? null,
      membership: storedMembership(options, limits),
      limits,
      rules,
      prng: options.prng,
    });
    const cut = log.firstIndex - 1;
    this.#readies = new ReadyMaker(this.#s, hardState, Math.max(options.applied ?? cut, cut));
    this.#softShown = this.#readies.soft;
  }

  get id(): NodeId {
    return this.#s.id;
  }

  get soft(): SoftState {
    return this.#readies.soft;
  }

  get members(): readonly Member[] {
    return this.#s.membership.members;
  }

  /** Index of the entry that put `members` in force. They are committed when `commit` is there. */
  get membersIndex(): number {
    return this.#s.membership.index;
  }

  get refusals(): Readonly<RefusalCounts> {
    return this.#s.refusals;
  }

  /** The vote of the current term. */
  get votedFor(): NodeId | null {
    return this.#s.votedFor;
  }

  /** Entries up to here are durable on this node. */
  get persistedIndex(): number {
    return this.#s.log.persistedIndex;
  }

  /** Term of the entry at `index`; undefined when it was cut or is not there. */
  termAt(index: number): number | undefined {
    return this.#s.log.term(index);
  }

  /** The member that leadership is being handed to. */
  get transferee(): NodeId | null {
    return this.#s.transferee;
  }

  /** 100 ms passed. */
  tick(): void {
    if (this.#s.role === "leader") tickLeader(this.#s);
    else tickElection(this.#s);
  }

  step(message: Message): void {
    step(this.#s, message);
  }

  /** Index of the new entry; null when not leader, handing over, or too much is uncommitted. */
  propose(data: Uint8Array): number | null {
    const s = this.#s;
    if (data.length > s.limits.entryBytesMax) {
      const limit = `the limit is ${s.limits.entryBytesMax}`;
      throw new RangeError(`Cannot propose an entry of "${data.length}" bytes: ${limit}`);
    }
    if (!this.#mayPropose()) return null;
    if (s.uncommitted.bytes + data.length > s.limits.uncommittedBytesMax) return null;
    return appendOwn(s, "data", data);
  }

  /**
   * Proposes the whole new membership, which may differ in one member. Null when not leader,
   * handing over, while another change is not committed, or before an entry of this term is.
   */
  proposeConfig(members: readonly Member[]): number | null {
    const s = this.#s;
    const why = whyBadMembers(members, s.limits);
    if (why !== null) throw new RangeError(`Cannot propose these members: ${why}`);
    const changes = countChanges(s.membership.members, members);
    if (changes !== 1) {
      throw new RangeError(`Cannot propose "${changes}" changes at once; propose one at a time`);
    }
    if (!this.#mayPropose()) return null;
    const { commit } = s.log;
    const isOwnTermCommitted = commit >= s.termStartIndex;
    if (!s.rules.mayChangeMembers(s.membership.index, commit, isOwnTermCommitted)) return null;
    return appendOwn(s, "config", encodeMembers(members));
  }

  /** False when this is not the leader or `to` can't take over. It is given up after a second. */
  transferLeadership(to: NodeId): boolean {
    return transferLeadership(this.#s, to);
  }

  /** The connection to the leader closed: asks for pre-votes without waiting for the time-out. */
  campaignNow(): void {
    campaignNow(this.#s);
  }

  /** This node's event loop stood still: silence proves nothing, so listen before campaigning. */
  stalled(): void {
    const s = this.#s;
    s.resetElectionTimer();
    s.isListening = s.role !== "leader";
    if (s.role === "precandidate") s.becomeFollower(s.term, null);
  }

  /** There is no connection to this member. */
  unreachable(id: NodeId): void {
    const s = this.#s;
    if (id === s.leader) s.isLeaderUnreachable = true;
    const progress = s.progress.get(id);
    if (!progress) return;
    progress.isUnreachable = true;
    progress.forget(s.log.lastIndex + 1);
  }

  /** There is a connection again. */
  reachable(id: NodeId): void {
    const progress = this.#s.progress.get(id);
    if (!progress?.isUnreachable) return;
    progress.isUnreachable = false;
    this.#s.needsFlush = true;
  }

  /** Stored entries that a slice of the log reader lacked are in memory now. */
  logLoaded(): void {
    this.#readies.logLoaded();
  }

  hasReady(): boolean {
    return this.#readies.hasReady(this.#softShown);
  }

  ready(): Ready {
    const ready = this.#readies.make();
    this.#softShown = ready.soft;
    return ready;
  }

  /**
   * All Readys up to number `persistedThrough` are durable, all entries up to index
   * `appliedThrough` are applied. May be called while later Readys are out.
   */
  advance(persistedThrough: number, appliedThrough: number): void {
    this.#readies.advance(persistedThrough, appliedThrough);
  }

  /** As leader: one for each other member. Otherwise empty. */
  progress(): readonly FollowerProgress[] {
    return [...this.#s.progress.values()].map((progress) => progress.view());
  }

  #mayPropose(): boolean {
    const s = this.#s;
    return (
      s.role === "leader" &&
      !s.isWitness &&
      s.transferee === null &&
      s.log.lastIndex < s.limits.indexMax
    );
  }
}

/** The members in force at the end of the stored log, with those that a truncation may restore. */
function storedMembership(options: RaftCoreOptions, limits: RaftLimits): Membership {
  const { log } = options;
  const membership = new Membership(log.firstIndex - 1, options.members);
  const commit = options.hardState?.commit ?? 0;
  for (const index of log.configIndexes?.() ?? scanForConfigs(log)) {
    const [entry] = log.slice(index, index + 1, limits.entryBytesMax);
    const members = entry?.kind === "config" ? decodeMembers(entry.data, limits) : null;
    if (members === null) throw new RangeError(`Cannot read the membership in entry "${index}"`);
    membership.append(index, members);
    if (index <= commit) membership.committed(index);
  }
  return membership;
}

function scanForConfigs(log: LogReader): readonly number[] {
  const indexes: number[] = [];
  let next = log.firstIndex;
  while (next <= log.lastIndex) {
    const entries = log.slice(next, log.lastIndex + 1, DEFAULT_LIMITS.appendBytesMax);
    for (const { index, kind } of entries) if (kind === "config") indexes.push(index);
    next = (entries.at(-1)?.index ?? log.lastIndex) + 1;
  }
  return indexes;
}
