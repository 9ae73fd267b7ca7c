/**
 * What happens in a run, drawn from its seed: how many nodes of which kind, how bad network and
 * disks are, and which troubles come how often. It knows nothing of the checkers.
 */

import type { Member, MemberRole } from "../../mesh/raft/mod.ts";
import type { Prng } from "../../src/prng.ts";
import { type NetworkFaults, NO_NETWORK_FAULTS } from "./sim_network.ts";

export interface Scenario {
  readonly members: readonly Member[];
  /** Names for nodes that join later; none when the membership is fixed. */
  readonly spares: readonly string[];
  /** How long troubles last; afterwards everything is healed. */
  readonly troubleMs: number;
  readonly network: NetworkFaults;
  readonly syncMsMax: number;
  /** Share of syncs that take up to a second. */
  readonly slowSync: number;
  /** One disk is always this much slower; 0 for none. */
  readonly slowDiskMs: number;
  /** For each write point of a disk. */
  readonly crashAtWrite: number;
  /** Mean time between troubles of a kind; 0 for never. */
  readonly crashEveryMs: number;
  /** New leaders die within so long of their election; 0 when they do not. */
  readonly crashLeaderWithinMs: number;
  readonly partitionEveryMs: number;
  readonly flapEveryMs: number;
  readonly stallEveryMs: number;
  /** A node's clock jumps: it ticks many times at once, as after a suspend that nobody noticed. */
  readonly jumpEveryMs: number;
  readonly transferEveryMs: number;
  readonly changeEveryMs: number;
  readonly cutEveryMs: number;
  /** A node that was dropped from the members gives its log up, and may be taken in again. */
  readonly leaveEveryMs: number;
  /** Mean time between the chunks of a primary. */
  readonly chunkEveryMs: number;
  /** Stored entries have to be loaded before they can be read. */
  readonly isLogLazy: boolean;
  /** 1 makes every append carry a single entry. */
  readonly appendBytesMax: number;
}

const NAMES = ["a", "b", "c", "d", "e", "f", "g", "h"] as const;

export function drawScenario(prng: Prng): Scenario {
  const size = prng.pick([1, 3, 3, 3, 3, 5]);
  const witnessCount = size === 1 ? 0 : prng.between(0, (size - 1) / 2);
  const members = NAMES.slice(0, size).map((id, i) => {
    const role: MemberRole = i < size - witnessCount ? "replica" : "witness";
    return { id, role };
  });
  const isMembershipChanging = prng.chance(0.3);
  const isCrashing = prng.chance(0.6);
  return {
    members,
    spares: isMembershipChanging ? NAMES.slice(size, size + 3) : [],
    troubleMs: prng.between(8_000, 30_000),
    network: prng.chance(0.2) ? NO_NETWORK_FAULTS : drawNetwork(prng),
    syncMsMax: prng.pick([1, 5, 20]),
    slowSync: prng.pick([0, 0, 0.02, 0.1]),
    slowDiskMs: prng.pick([0, 0, 0, 300]),
    crashAtWrite: isCrashing ? prng.pick([0, 0.002, 0.01]) : 0,
    crashEveryMs: isCrashing ? prng.pick([1_000, 3_000, 6_000]) : 0,
    crashLeaderWithinMs: isCrashing ? prng.pick([0, 0, 50, 200, 600]) : 0,
    partitionEveryMs: prng.chance(0.5) ? prng.pick([1_500, 4_000]) : 0,
    flapEveryMs: prng.chance(0.2) ? 400 : 0,
    stallEveryMs: prng.chance(0.2) ? 3_000 : 0,
    jumpEveryMs: prng.chance(0.15) ? 2_000 : 0,
    transferEveryMs: prng.chance(0.3) ? prng.pick([500, 2_000]) : 0,
    changeEveryMs: isMembershipChanging ? prng.pick([300, 1_000]) : 0,
    cutEveryMs: prng.chance(0.3) ? 1_500 : 0,
    leaveEveryMs: isMembershipChanging && prng.chance(0.7) ? prng.pick([300, 2_000]) : 0,
    chunkEveryMs: prng.pick([30, 100, 300]),
    isLogLazy: prng.chance(0.3),
    appendBytesMax: prng.pick([1, 1024, 1024]),
  };
}

function drawNetwork(prng: Prng): NetworkFaults {
  return {
    loss: prng.pick([0, 0.02, 0.1, 0.3]),
    duplication: prng.pick([0, 0.05, 0.2]),
    delayMsMax: prng.pick([2, 20, 100]),
    slow: prng.pick([0, 0, 0.02]),
  };
}
