/**
 * The few decisions on which Raft's safety rests, apart from the machinery around them: a reader
 * finds them on one page, and the simulator breaks them one at a time to prove that its checkers
 * see it. Production code never passes rules of its own.
 */

import type { NodeId } from "./types.ts";

export interface SafetyRules {
  /** One vote a term (section 5.2). */
  mayVote(votedFor: NodeId | null, candidate: NodeId): boolean;
  /** The election restriction (section 5.4.1): is the candidate's log at least as new as ours? */
  isUpToDate(candidate: LogPosition, own: LogPosition): boolean;
  /** Only entries of the leader's own term commit by counting (section 5.4.2, figure 8). */
  mayCommit(entryTerm: number, currentTerm: number): boolean;
  /** An entry is replaced only by one of another term at its index (section 5.3). */
  isConflict(ownTerm: number | undefined, entryTerm: number): boolean;
  /** Committed entries are never removed. */
  mayTruncate(fromIndex: number, commit: number): boolean;
  /** Votes or copies needed of so many voters. */
  quorum(voterCount: number): number;
  /** A new membership waits for the old one, and for an entry of the leader's own term. */
  mayChangeMembers(pendingIndex: number, commit: number, ownTermCommitted: boolean): boolean;
}

export interface LogPosition {
  readonly index: number;
  readonly term: number;
}

export const SAFETY_RULES: SafetyRules = {
  mayVote: (votedFor, candidate) => votedFor === null || votedFor === candidate,
  isUpToDate: (candidate, own) =>
    candidate.term > own.term || (candidate.term === own.term && candidate.index >= own.index),
  mayCommit: (entryTerm, currentTerm) => entryTerm === currentTerm,
  isConflict: (ownTerm, entryTerm) => ownTerm !== entryTerm,
  mayTruncate: (fromIndex, commit) => fromIndex > commit,
  quorum: (voterCount) => Math.floor(voterCount / 2) + 1,
  mayChangeMembers: (pendingIndex, commit, ownTermCommitted) =>
    pendingIndex <= commit && ownTermCommitted,
};
