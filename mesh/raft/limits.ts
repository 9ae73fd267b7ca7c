/**
 * Every bound of the Raft core, with its reason and what happens at the cap. All are the same on
 * every member of a mesh; a simulation makes them small so that the caps are met.
 */

/** An entry's cost beyond its data in every byte limit, so that empty entries are bounded too. */
export const ENTRY_OVERHEAD_BYTES = 32;

export interface RaftLimits {
  /** A follower campaigns after a random time in [min, max) ticks without its leader. */
  readonly electionTicksMin: number;
  readonly electionTicksMax: number;
  /** A witness waits this many times longer: it should only lead when no replica can. */
  readonly witnessPatience: number;
  /** A probe that got no answer is sent again after so long. */
  readonly probeTicks: number;
  /** Pipelined appends that got no answer for so long are taken for lost: back to probing. */
  readonly resendTicks: number;
  /** A leader transfer that has not happened by then is given up; proposals go on. */
  readonly transferTicks: number;
  /** A longer entry is refused: by `propose` with a RangeError, from a peer with a counter. */
  readonly entryBytesMax: number;
  /** Bytes in one append (one entry may exceed it); keeps heartbeats moving on a slow link. */
  readonly appendBytesMax: number;
  /** Entries in one append; a longer one from a peer is refused. */
  readonly appendEntriesMax: number;
  /** Unanswered bytes per follower; the leader sends it nothing more until it answers. */
  readonly inflightBytesMax: number;
  /** Unanswered appends per follower; bounds the book-keeping for tiny entries. */
  readonly inflightAppendsMax: number;
  /** Uncommitted bytes at the leader; `propose` answers null beyond. */
  readonly uncommittedBytesMax: number;
  /** Received bytes that wait for this node's disk; appends beyond are dropped and sent again. */
  readonly unpersistedBytesMax: number;
  /** Durable entries kept in memory for sending; older ones are read from the log again. */
  readonly tailBytesMax: number;
  /** Committed bytes handed out and not yet applied; more follow as `advance` reports. */
  readonly applyBytesMax: number;
  readonly membersMax: number;
  readonly nodeIdLengthMax: number;
  /** Terms and indexes stay far below 2^53, so that arithmetic on them is exact. */
  readonly termMax: number;
  readonly indexMax: number;
  /** A message this far ahead of one's own term is refused: no sound group is that long alone. */
  readonly termJumpMax: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;

export const DEFAULT_LIMITS: RaftLimits = {
  electionTicksMin: 10,
  electionTicksMax: 20,
  witnessPatience: 2,
  probeTicks: 5,
  resendTicks: 10,
  transferTicks: 10,
  entryBytesMax: 256 * KIB,
  appendBytesMax: 256 * KIB,
  appendEntriesMax: 4096,
  inflightBytesMax: 1 * MIB,
  inflightAppendsMax: 256,
  uncommittedBytesMax: 16 * MIB,
  unpersistedBytesMax: 8 * MIB,
  tailBytesMax: 4 * MIB,
  applyBytesMax: 4 * MIB,
  membersMax: 32,
  nodeIdLengthMax: 128,
  termMax: 2 ** 48,
  indexMax: 2 ** 48,
  termJumpMax: 2 ** 32,
};
