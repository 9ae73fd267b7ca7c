/** What users of groups see: handlers, roles, status. */

import type { Entry, Member, NodeId, SoftState, StateRole } from "../raft/types.ts";
import type { LogCut } from "../storage/types.ts";
import type { LatencySummary } from "./_latency.ts";

export interface RoleState extends SoftState {
  /** Leader, and the handler has settled everything up to this term's first entry. */
  readonly readyToLead: boolean;
}

export interface GroupHandler {
  /**
   * Committed entries of all kinds, in order and without gaps from index 1; the next batch comes
   * only after the promise. An error ends this group's part on this node.
   */
  onCommitted(entries: readonly Entry[]): void | Promise<void>;
  /** Role, leader, term or readyToLead changed. */
  onRole(state: RoleState): void;
  /** How long an own proposal took until it was committed. */
  onCommitLatency?(ms: number): void;
  /** This group takes no further part on this node: its storage or its handler failed. */
  onError?(error: Error): void;
}

export interface GroupInfo {
  readonly id: string;
  /** Those in force; of a group that is not open, those of its creation or its cut. */
  readonly members: readonly Member[];
  /** Opaque; given at creation. */
  readonly info: Uint8Array;
  readonly opened: boolean;
}

export interface FollowerStatus {
  readonly id: NodeId;
  readonly match: number;
  readonly lagEntries: number;
  readonly active: boolean;
  /** It lacks entries that were cut here: only a checkpoint helps. */
  readonly needsSeed: boolean;
}

/** What stands for the log up to an entry, beside the layer above's own checkpoint. */
export interface GroupSeed {
  readonly index: number;
  readonly term: number;
  readonly members: readonly Member[];
}

export interface GroupStatus {
  readonly role: StateRole;
  readonly leader: NodeId | null;
  readonly term: number;
  readonly commit: number;
  readonly delivered: number;
  readonly lastIndex: number;
  readonly readyToLead: boolean;
  /** Why the group takes no part; null if it does. */
  readonly failed: string | null;
  readonly commitLatencyMs: LatencySummary;
  readonly followers: readonly FollowerStatus[];
}

export interface Proposal {
  readonly index: number;
  readonly term: number;
}

export interface Group {
  readonly id: string;
  /** Those in force: of the newest membership in the log, committed or not. */
  readonly members: readonly Member[];
  /** Index of the entry that put them in force; 0 for those of the creation. */
  readonly membersIndex: number;
  /** What the log begins behind; null if nothing was cut. Delivery begins there. */
  readonly base: LogCut | null;
  readonly info: Uint8Array;
  readonly soft: SoftState;
  /**
   * Null when this node does not lead or too much is under way. Committed only if an entry with
   * this index and this term reaches onCommitted.
   */
  propose(data: Uint8Array): Proposal | null;
  /**
   * Proposes another membership, one step away. Null when this node does not lead, another change
   * is not committed yet, or nothing of this term is.
   */
  changeMembers(members: readonly Member[]): Proposal | null;
  transferLeadership(to: NodeId): boolean;
  /** Asks for an election now, without waiting for the time-out. */
  campaign(): void;
  /** Delivery begins again behind the base, after a running onCommitted has settled. */
  redeliver(): void;
  /**
   * A checkpoint, durable on this node, stands for the log up to `index`, which was delivered: the
   * entries are given up. False if that is no entry of this log, or it was cut there before.
   */
  cut(index: number, checkpoint: string): Promise<boolean>;
  /** Where a checkpoint at `index` belongs: what a member that is seeded with it must know. */
  seedAt(index: number): GroupSeed | null;
  status(): GroupStatus;
  /** Takes no further part; the durable state stays. */
  close(): Promise<void>;
  /** Takes no further part and deletes the log; the group may come back by `create`. */
  leave(): Promise<void>;
  /** Takes no further part and deletes the log; the id is refused from now on. */
  destroy(): Promise<void>;
}
