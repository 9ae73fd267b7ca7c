/** What users of groups see: handlers, roles, status. */

import type { Entry, Member, NodeId, SoftState, StateRole } from "../raft/types.ts";
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
  readonly members: readonly Member[];
  readonly info: Uint8Array;
  readonly soft: SoftState;
  /**
   * Null when this node does not lead or too much is under way. Committed only if an entry with
   * this index and this term reaches onCommitted.
   */
  propose(data: Uint8Array): Proposal | null;
  transferLeadership(to: NodeId): boolean;
  /** Asks for an election now, without waiting for the time-out. */
  campaign(): void;
  /** Delivery begins again at index 1, after a running onCommitted has settled. */
  redeliver(): void;
  status(): GroupStatus;
  /** Takes no further part; the durable state stays. */
  close(): Promise<void>;
  /** Takes no further part and deletes the log; the id is refused from now on. */
  destroy(): Promise<void>;
}
