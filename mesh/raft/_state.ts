/**
 * The variables of one server, named as in the paper's figure 2, and the transitions between roles.
 * Only files of this folder see it. It holds no rule about messages: those are in the files named
 * after them (election, replication, commit, membership changes).
 */

import { ByteWindow } from "./_byte_window.ts";
import { Progress } from "./_progress.ts";
import type { RaftLog } from "./_raft_log.ts";
import type { RaftLimits } from "./limits.ts";
import type { Membership } from "./membership.ts";
import { newRefusalCounts, type Refusal, type RefusalCounts } from "./refusals.ts";
import type { SafetyRules } from "./safety_rules.ts";
import type { Message, NodeId, Prng, StateRole, VoteFloor } from "./types.ts";

export interface StateInit {
  readonly id: NodeId;
  readonly term: number;
  readonly votedFor: NodeId | null;
  readonly log: RaftLog;
  readonly membership: Membership;
  readonly limits: RaftLimits;
  readonly rules: SafetyRules;
  readonly prng: Prng;
  readonly floor: VoteFloor | null;
}

export class RaftState {
  readonly id: NodeId;
  readonly log: RaftLog;
  readonly membership: Membership;
  readonly limits: RaftLimits;
  readonly rules: SafetyRules;
  readonly prng: Prng;
  readonly floor: VoteFloor | null;
  readonly refusals: RefusalCounts = newRefusalCounts();

  term: number;
  votedFor: NodeId | null;
  role: StateRole = "follower";
  leader: NodeId | null = null;

  /**
   * Ticks since the leader was heard or a vote was given; as leader: since the last quorum check.
   */
  electionElapsed = 0;
  /** Random; the election begins when `electionElapsed` reaches it. */
  electionTimeout = 0;
  /** The connection to the leader is closed: what it said last does not hold back an election. */
  isLeaderUnreachable = false;
  /** This node stood still: it listens for a whole election timeout before it may campaign. */
  isListening = false;
  /** Answers to the (pre-)votes asked for, this node's own included. */
  votes = new Map<NodeId, boolean>();
  /** Candidate: the leader asked for this election. */
  isTransfer = false;

  /** Leader: one for each other member. */
  progress = new Map<NodeId, Progress>();
  transferee: NodeId | null = null;
  transferElapsed = 0;
  /** It did not take over when it was asked to: another one is asked first. */
  failedTransferee: NodeId | null = null;
  /** Leader: index of the no-op that its term began with. */
  termStartIndex = 0;
  /** Leader: its own entries that are not committed. */
  readonly uncommitted = new ByteWindow();
  /** Leader: something may be sent; looked at when the next Ready is made. */
  needsFlush = false;

  /** Wait for durability. */
  messages: Message[] = [];
  /** May leave at once. */
  messagesNow: Message[] = [];

  constructor(init: StateInit) {
    this.id = init.id;
    this.term = init.term;
    this.votedFor = init.votedFor;
    this.log = init.log;
    this.membership = init.membership;
    this.limits = init.limits;
    this.rules = init.rules;
    this.prng = init.prng;
    this.floor = init.floor;
    this.drawElectionTimeout();
  }

  get isVoter(): boolean {
    return this.membership.isVoter(this.id);
  }

  get mayCampaign(): boolean {
    return this.membership.mayCampaign(this.id, this.log.commit) && this.hasFloor;
  }

  /** Has its log all that this server ever acknowledged, or something newer? */
  get hasFloor(): boolean {
    const { floor, log } = this;
    return (
      floor === null || this.rules.isUpToDate({ index: log.lastIndex, term: log.lastTerm }, floor)
    );
  }

  get isWitness(): boolean {
    return this.membership.roleOf(this.id) === "witness";
  }

  /** A live leader is known: nobody else is helped to depose it. */
  get hearsLeader(): boolean {
    return (
      this.leader !== null &&
      !this.isLeaderUnreachable &&
      (this.role === "leader" || this.electionElapsed < this.limits.electionTicksMin)
    );
  }

  refuse(reason: Refusal): void {
    this.refusals[reason] += 1;
  }

  drawElectionTimeout(): void {
    const { electionTicksMin, electionTicksMax, witnessPatience } = this.limits;
    const ticks =
      electionTicksMin + Math.floor(this.prng.next() * (electionTicksMax - electionTicksMin));
    this.electionTimeout = this.isWitness ? ticks * witnessPatience : ticks;
  }

  resetElectionTimer(): void {
    this.electionElapsed = 0;
    this.drawElectionTimeout();
  }

  becomeFollower(term: number, leader: NodeId | null): void {
    const wasFollower = this.role === "follower";
    if (term > this.term) this.votedFor = null;
    // A mere new term does not restart the timer: a stale candidate must not hold others back.
    if (!wasFollower) this.resetElectionTimer();
    this.term = term;
    this.leader = leader;
    this.role = "follower";
    this.isLeaderUnreachable = false;
    this.#forgetOffice();
  }

  becomePrecandidate(): void {
    this.role = "precandidate";
    this.leader = null;
    this.resetElectionTimer();
    this.#forgetOffice();
  }

  becomeCandidate(isTransfer: boolean): void {
    this.term += 1;
    this.votedFor = this.id;
    this.role = "candidate";
    this.leader = null;
    this.resetElectionTimer();
    this.#forgetOffice();
    this.isTransfer = isTransfer;
  }

  becomeLeader(): void {
    this.role = "leader";
    this.leader = this.id;
    this.isLeaderUnreachable = false;
    this.resetElectionTimer();
    this.#forgetOffice();
    this.termStartIndex = this.log.lastIndex + 1;
    this.syncProgress();
  }

  /** Follows the membership: new members get a progress, former ones lose theirs. */
  syncProgress(): void {
    for (const { id, role } of this.membership.members) {
      if (id === this.id) continue;
      const known = this.progress.get(id);
      if (known) known.role = role;
      else this.progress.set(id, new Progress(id, role, this.log.lastIndex + 1));
    }
    for (const id of this.progress.keys()) {
      if (this.membership.roleOf(id) === undefined) this.progress.delete(id);
    }
    this.needsFlush = true;
  }

  #forgetOffice(): void {
    this.votes.clear();
    this.isTransfer = false;
    if (this.progress.size > 0) this.progress.clear();
    this.transferee = null;
    this.transferElapsed = 0;
    this.failedTransferee = null;
    this.uncommitted.clear();
    this.needsFlush = false;
  }
}
