/**
 * The Raft core of a group: sans-IO (`step`, `tick`, `ready`, `advance`), in the paper's words. Who
 * owns a core stores, sends and applies what its Readys say.
 *
 * @module
 */

export { DEFAULT_LIMITS, ENTRY_OVERHEAD_BYTES, type RaftLimits } from "./limits.ts";
export { countChanges, decodeMembers, encodeMembers, whyBadMembers } from "./membership.ts";
export { RaftCore, type RaftCoreOptions } from "./raft_core.ts";
export { REFUSALS, type Refusal, type RefusalCounts } from "./refusals.ts";
export { type LogPosition, SAFETY_RULES, type SafetyRules } from "./safety_rules.ts";
export type * from "./types.ts";
