/**
 * Bugs put in on purpose, one at a time, each a mistake that real implementations made. A checker
 * that does not see them would not see ours either.
 */

import { SAFETY_RULES, type SafetyRules } from "../../mesh/raft/mod.ts";
import type { Scenario } from "./scenario.ts";

export const CANARIES = {
  "ack-before-fsync": "the disk acknowledges before the data is durable",
  "vote-not-persisted": "the vote is lost in a restart",
  "send-before-persist": "votes and acknowledgements leave before they are durable",
  "commit-old-term": "entries of older terms commit by counting copies",
  "truncate-on-overlap": "an append that overlaps the log cuts what follows it, committed or not",
  "vote-twice": "a second candidate of the term gets a vote too",
  "vote-for-stale-log": "the candidate's log is not compared",
  "half-is-enough": "half of the voters count as a majority",
  "changes-overlap": "a membership change does not wait for the one before it",
  "floor-forgotten": "a member that left and came back votes as if it had never held a log",
  "output-before-commit": "the primary's output leaves when it is proposed",
} as const;

/** Where a mistake shows only in rare histories: the conditions that make these likely. */
export const CANARY_CONDITIONS: { readonly [canary in Canary]?: Partial<Scenario> } = {
  // Three founders and a spare that are dropped and taken in again all the time.
  "floor-forgotten": {
    members: ["a", "b", "c"].map((id) => ({ id, role: "replica" })),
    spares: ["d"],
    troubleMs: 30_000,
    network: { loss: 0.02, duplication: 0, delayMsMax: 20, slow: 0 },
    slowDiskMs: 0,
    slowSync: 0,
    crashEveryMs: 3_000,
    partitionEveryMs: 1_500,
    stallEveryMs: 3_000,
    changeEveryMs: 300,
    leaveEveryMs: 150,
    cutEveryMs: 0,
  },
  // Figure 8: leaders with a tail of their own die young, and come back.
  "commit-old-term": {
    members: ["a", "b", "c"].map((id) => ({ id, role: "replica" })),
    spares: [],
    troubleMs: 30_000,
    network: { loss: 0.3, duplication: 0, delayMsMax: 20, slow: 0 },
    crashEveryMs: 0,
    crashAtWrite: 0,
    crashLeaderWithinMs: 1_000,
    partitionEveryMs: 0,
    changeEveryMs: 0,
    cutEveryMs: 0,
    chunkEveryMs: 30,
    appendBytesMax: 1,
  },
};

export type Canary = keyof typeof CANARIES;

export function isCanary(name: string): name is Canary {
  return Object.hasOwn(CANARIES, name);
}

export function rulesWith(canary: Canary | null): SafetyRules {
  switch (canary) {
    case "commit-old-term":
      return { ...SAFETY_RULES, mayCommit: () => true };
    case "truncate-on-overlap":
      return { ...SAFETY_RULES, isConflict: () => true, mayTruncate: () => true };
    case "vote-twice":
      return { ...SAFETY_RULES, mayVote: () => true };
    case "vote-for-stale-log":
      return { ...SAFETY_RULES, isUpToDate: () => true };
    case "half-is-enough":
      return { ...SAFETY_RULES, quorum: (voterCount) => Math.max(1, Math.floor(voterCount / 2)) };
    case "changes-overlap":
      return { ...SAFETY_RULES, mayChangeMembers: () => true };
    default:
      return SAFETY_RULES;
  }
}
