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

/**
 * `data`: bytes of the layer above. `config`: the whole new membership. `noop`: a leader's first.
 */
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

/**
 * Where a log ended before it was given up: by a member that left and came back, or that was
 * seeded. Its owner acknowledged entries up to there, so it may not help anybody with less to lead.
 */
export interface VoteFloor {
  readonly index: number;
  readonly term: number;
}

export type StateRole = "follower" | "precandidate" | "candidate" | "leader";

/** Their places in this list are their numbers on the wire: only ever add at the end. */
export const MESSAGE_KINDS = [
  "prevote",
  "prevote_reply",
  "vote",
  "vote_reply",
  "append",
  "append_reply",
  "heartbeat",
  "heartbeat_reply",
  "timeout_now",
] as const;
export type MessageKind = (typeof MESSAGE_KINDS)[number];

export interface Message {
  readonly kind: MessageKind;
  readonly from: NodeId;
  readonly to: NodeId;
  /** The sender's term; prevote and a granting prevote_reply: the term that is asked for. */
  readonly term: number;
  /**
   * append: index before `entries`. vote, prevote: the candidate's last index. heartbeat: the
   * newest index that is committed and known to match. append_reply: match, or the hint of a
   * rejection.
   */
  readonly index: number;
  /**
   * append, heartbeat: term at `index`. vote, prevote: the candidate's last term. A rejecting
   * append_reply: term at the hint.
   */
  readonly logTerm: number;
  readonly commit: number;
  readonly entries: readonly Entry[];
  readonly reject: boolean;
  /** vote, prevote: the leader itself asked for this election (leader transfer). */
  readonly transfer: boolean;
}

/**
 * What the owner of a core must do: send `messagesNow`, persist `hardState` and `entries`, then
 * send `messages`; hand `committed` to the state machine. Several Readys may be out at once, as
 * storage is asynchronous; they are persisted and their `messages` sent strictly in order of
 * `number`.
 */
export interface Ready {
  /** Counts from 1; `advance` names the newest one that is durable. */
  readonly number: number;
  /** Changed since the last Ready; null if nothing changed. */
  readonly hardState: HardState | null;
  /**
   * False when only `hardState.commit` changed: that may be written lazily, and this Ready counts
   * as durable as soon as all earlier ones are.
   */
  readonly mustSync: boolean;
  /** Entries to append, first truncating the stored log from `entries[0].index` on. */
  readonly entries: readonly Entry[];
  /** May leave only when this Ready and all earlier ones are durable. */
  readonly messages: readonly Message[];
  /** May leave at once (a leader's appends overlap its own fsync). */
  readonly messagesNow: readonly Message[];
  /**
   * Newly committed entries, in order; may be applied at once. They may be committed by the disks
   * of others while this node's own write is still under way.
   */
  readonly committed: readonly Entry[];
  readonly soft: SoftState;
}

export interface SoftState {
  readonly role: StateRole;
  readonly leader: NodeId | null;
  readonly term: number;
  readonly commit: number;
  readonly lastIndex: number;
  /** Leader only: followers that need entries which were cut; seed them from a checkpoint. */
  readonly needsSeed: readonly NodeId[];
}

/**
 * Read access to entries already stored; the core keeps only a bounded tail in memory. The core
 * asks only for entries that were reported durable through `advance` and not truncated since, so a
 * reader may lag behind writes that are still under way.
 */
export interface LogReader {
  /**
   * First index still stored (entries before it were cut behind a checkpoint); 1 when none were.
   */
  readonly firstIndex: number;
  /** `firstIndex - 1` when no entry is stored. */
  readonly lastIndex: number;
  /**
   * Term of the entry at `index`; 0 for index 0. The term of the last entry that was cut
   * (`firstIndex - 1`) is kept with the log; earlier ones throw RangeError.
   */
  term(index: number): number;
  /**
   * Entries in [from, to), at most `bytesMax` of data but at least one. Empty when they have to be
   * loaded first; the owner then calls the core's `logLoaded` when they are there.
   */
  slice(from: number, to: number, bytesMax: number): readonly Entry[];
  /**
   * Indexes of the stored entries of kind `config`, ascending. A reader that can't tell leaves it
   * out; the core then reads the whole stored log once when it is made.
   */
  configIndexes?(): readonly number[];
}

/** Uniform in [0, 1), seeded by the owner. */
export interface Prng {
  next(): number;
}

/** What a leader knows about one other member. */
export interface FollowerProgress {
  readonly id: NodeId;
  readonly role: MemberRole;
  /** Newest index known to be durable there and equal to the leader's. */
  readonly match: number;
  readonly next: number;
  /** It answered since the last check of the quorum (1 to 2 s). */
  readonly recentActive: boolean;
  /** `probe`: looking for the match. `replicate`: pipelining. `seed`: needs a checkpoint first. */
  readonly state: "probe" | "replicate" | "seed";
  readonly inflightBytes: number;
}
