/**
 * Who belongs to the group. The newest membership in the log is in force from the moment its entry
 * is appended, committed or not (section 4.1 of the thesis); when that entry is truncated, the one
 * before it is in force again. This file also holds the bytes of a membership entry.
 */

import { DEFAULT_LIMITS, type RaftLimits } from "./limits.ts";
import type { Member, MemberRole, NodeId } from "./types.ts";

const ROLES: readonly MemberRole[] = ["replica", "witness", "learner"];
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

interface MembershipVersion {
  readonly index: number;
  readonly members: readonly Member[];
}

export class Membership {
  /** Ascending; the last is in force. Versions older than the newest committed one are dropped. */
  readonly #versions: MembershipVersion[];
  #roles = new Map<NodeId, MemberRole>();
  #voters: readonly NodeId[] = [];

  constructor(index: number, members: readonly Member[]) {
    this.#versions = [{ index, members }];
    this.#use(members);
  }

  get members(): readonly Member[] {
    return this.#versions.at(-1)!.members;
  }

  /** Index of the entry that put the members in force; 0 or the log's cut for the first ones. */
  get index(): number {
    return this.#versions.at(-1)!.index;
  }

  get voters(): readonly NodeId[] {
    return this.#voters;
  }

  roleOf(id: NodeId): MemberRole | undefined {
    return this.#roles.get(id);
  }

  isVoter(id: NodeId): boolean {
    const role = this.#roles.get(id);
    return role === "replica" || role === "witness";
  }

  /**
   * May it campaign? A server that a newer membership leaves out is needed until that membership is
   * committed: it may be the only one that holds it (section 4.2.2 of the thesis).
   */
  mayCampaign(id: NodeId, commit: number): boolean {
    if (this.isVoter(id)) return true;
    if (this.index <= commit) return false;
    const before = this.#versions.at(-2);
    return before?.members.some((member) => member.id === id && member.role !== "learner") ?? false;
  }

  append(index: number, members: readonly Member[]): void {
    this.#versions.push({ index, members });
    this.#use(members);
  }

  /** The log was truncated from `index` on. */
  truncate(index: number): void {
    if (this.index < index) return;
    while (this.#versions.length > 1 && this.index >= index) this.#versions.pop();
    this.#use(this.members);
  }

  /** Entries up to `commit` can't be truncated: older versions are not needed any more. */
  committed(commit: number): void {
    while (this.#versions.length > 1 && this.#versions[1]!.index <= commit) {
      this.#versions.shift();
    }
  }

  #use(members: readonly Member[]): void {
    this.#roles = new Map(members.map((member) => [member.id, member.role]));
    this.#voters = members.filter((member) => member.role !== "learner").map(({ id }) => id);
  }
}

export function encodeMembers(members: readonly Member[]): Uint8Array {
  return encoder.encode(JSON.stringify(members.map(({ id, role }) => [id, role])));
}

/** The members in an entry's bytes; null when they are not a valid membership. */
export function decodeMembers(data: Uint8Array, limits = DEFAULT_LIMITS): readonly Member[] | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(decoder.decode(data));
  } catch {
    return null;
  }
  if (!Array.isArray(parsed)) return null;
  const members: Member[] = [];
  for (const item of parsed as unknown[]) {
    if (!Array.isArray(item) || item.length !== 2) return null;
    members.push({ id: item[0] as NodeId, role: item[1] as MemberRole });
  }
  return whyBadMembers(members, limits) === null ? members : null;
}

/** Why these can't be the members of a group; null when they can. */
export function whyBadMembers(members: readonly Member[], limits: RaftLimits): string | null {
  if (members.length > limits.membersMax) return `more than ${limits.membersMax} members`;
  const ids = new Set<NodeId>();
  for (const { id, role } of members) {
    if (typeof id !== "string" || id.length === 0 || id.length > limits.nodeIdLengthMax) {
      return "a member's id is not a short string";
    }
    if (!ROLES.includes(role)) return `"${String(role)}" is not a role`;
    if (ids.has(id)) return `"${id}" is there twice`;
    ids.add(id);
  }
  return members.some(({ role }) => role === "replica") ? null : "no member is a replica";
}

/** How many members were added, removed or given another role. Only single steps are safe. */
export function countChanges(from: readonly Member[], to: readonly Member[]): number {
  const before = new Map(from.map((member) => [member.id, member.role]));
  const after = new Map(to.map((member) => [member.id, member.role]));
  let count = 0;
  for (const [id, role] of after) if (before.get(id) !== role) count += 1;
  for (const id of before.keys()) if (!after.has(id)) count += 1;
  return count;
}
