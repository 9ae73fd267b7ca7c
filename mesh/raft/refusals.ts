/** Why a message was not acted upon. Peers cause these, so each is a counter and never an error. */

export const REFUSALS = [
  /** Not a message: a field is missing or of the wrong type, or it is not for this node. */
  "malformed",
  /** A term, index, length or count beyond the limits, or an entry newer than its sender. */
  "absurd",
  /** Entries that are not contiguous, or whose terms go backwards. */
  "not_contiguous",
  /** A membership entry that can't be read or has no replica. */
  "bad_members",
  /** Sent by a node that is not a member, while this node has no need to listen to it. */
  "stranger",
  /** An older term's message, or an answer to what is decided already. */
  "stale",
  /** A vote was asked for while this node hears its leader. */
  "has_leader",
  /** Claims to lead a term that has another leader already. */
  "two_leaders",
  /** Would replace an entry that is committed here. */
  "contradicts_commit",
  /** A commit index beyond the log, or an acknowledgement of entries that do not exist. */
  "beyond_log",
  /** Too many received bytes wait for this node's disk. */
  "disk_behind",
  /** A reply that fits no question, or an order that fits no state. */
  "unexpected",
] as const;

export type Refusal = (typeof REFUSALS)[number];

export type RefusalCounts = { [kind in Refusal]: number };

export function newRefusalCounts(): RefusalCounts {
  return Object.fromEntries(REFUSALS.map((kind) => [kind, 0])) as RefusalCounts;
}
