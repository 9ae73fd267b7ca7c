/**
 * The words of the Raft core (Ongaro & Ousterhout 2014; Ongaro's thesis 2014 for PreVote,
 * CheckQuorum, leader transfer, learners and single-server changes). The core is sans-IO: it gets
 * messages and ticks, and hands out what to store, send and apply. It never reads a clock, draws a
 * random number by itself, or touches a socket.
 */

export type NodeId = string;

/**
 * `replica`: votes, stores the log and runs a copy. `witness`: votes and stores the log, runs
 * nothing, and leads only to bring a replica up to date and hand over. `learner`: stores the log,
 * does not vote (a copy being seeded).
 */
export type MemberRole = "replica" | "witness" | "learner";

export interface Member {
  readonly id: NodeId;
  readonly role: MemberRole;
}

/** `data`: bytes of the layer above. `config`: the whole new membership. `noop`: a leader's first. */
export type EntryKind = "data" | "config" | "noop";

export interface Entry {
  readonly index: number;
  readonly term: number;
  readonly kind: EntryKind;
  readonly data: Uint8Array;
}

/** What must be on disk before any message that follows from it is sent. */
export interface HardState {
  readonly term: number;
  readonly votedFor: NodeId | null;
  /** Need not be synced by itself; it only saves work after a restart. */
  readonly commit: number;
}

export type StateRole = "follower" | "precandidate" | "candidate" | "leader";

export type MessageKind =
  | "prevote"
  | "prevote_reply"
  | "vote"
  | "vote_reply"
  | "append"
  | "append_reply"
  | "heartbeat"
  | "heartbeat_reply"
  | "timeout_now";

export interface Message {
  readonly kind: MessageKind;
  readonly from: NodeId;
  readonly to: NodeId;
  readonly term: number;
  /** append: index before `entries`. vote: candidate's last index. replies: match or hint. */
  readonly index: number;
  /** append: term at `index`. vote: candidate's last term. rejections: term at the hint. */
  readonly logTerm: number;
  readonly commit: number;
  readonly entries: readonly Entry[];
  readonly reject: boolean;
  /** vote, prevote: the leader itself asked for this election (leader transfer). */
  readonly transfer: boolean;
}

/** What the owner of a core must do, in this order: persist, send, apply, then `advance`. */
export interface Ready {
  /** Changed since the last Ready; null if nothing changed. */
  readonly hardState: HardState | null;
  /** Entries to append, first truncating the stored log from `entries[0].index` on. */
  readonly entries: readonly Entry[];
  /** May leave only when hardState and entries above are durable. */
  readonly messages: readonly Message[];
  /** May leave at once (a leader's appends overlap its own fsync). */
  readonly messagesNow: readonly Message[];
  /** Newly committed entries, in order. */
  readonly committed: readonly Entry[];
  readonly soft: SoftState;
}

export interface SoftState {
  readonly role: StateRole;
  readonly leader: NodeId | null;
  readonly term: number;
  readonly commit: number;
  readonly lastIndex: number;
}

/** Read access to entries already stored; the core keeps only a bounded tail in memory. */
export interface LogReader {
  /** First index still stored (entries before it were cut behind a checkpoint). */
  readonly firstIndex: number;
  readonly lastIndex: number;
  /** Term of the entry at `index`; 0 for index 0; throws RangeError when it was cut. */
  term(index: number): number;
  /** Entries in [from, to), at most `bytesMax` of data but at least one. */
  slice(from: number, to: number, bytesMax: number): readonly Entry[];
}

/** Uniform in [0, 1), seeded by the owner. */
export interface Prng {
  next(): number;
}
