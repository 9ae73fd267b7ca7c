/**
 * Who belongs to the mesh, as a pure function of the facts: the same set gives the same answer on
 * every node, in whatever order the facts came. Facts count in the order of their times; one
 * counts only if its signer might say it at that moment. A removal is for ever.
 */

import type { NodeId } from "../raft/types.ts";
import { claimOf, type Fact, type SignedFact } from "./facts.ts";
import { type MeshRole, meshRoles } from "./roles.ts";

export interface MeshMember {
  readonly id: NodeId;
  readonly roles: readonly MeshRole[];
  readonly since: number;
  /** Who took it in. */
  readonly by: NodeId;
}

export interface TicketState {
  readonly ticket: string;
  readonly roles: readonly MeshRole[];
  /** 0: any number. */
  readonly uses: number;
  readonly expires: number;
  readonly madeAt: number;
  readonly by: NodeId;
  readonly isRevoked: boolean;
  readonly used: readonly NodeId[];
}

export interface MemberState {
  readonly members: ReadonlyMap<NodeId, MeshMember>;
  readonly removed: ReadonlyMap<NodeId, number>;
  readonly tickets: ReadonlyMap<string, TicketState>;
  /** Facts that count; the others may be forgotten. */
  readonly counted: ReadonlySet<string>;
  /** The newest time of an administrator's fact: the next one must be later. */
  readonly newestAt: number;
}

interface Draft {
  readonly root: NodeId;
  readonly members: Map<NodeId, MeshMember>;
  readonly removed: Map<NodeId, number>;
  readonly tickets: Map<string, TicketState>;
  readonly revoked: Set<string>;
  newestAt: number;
}

/** How far beyond its ticket's end an admission's time may lie: others are ordered behind it. */
const ADMIT_SLACK_MS = 24 * 3_600_000;

export const noMembers: MemberState = foldFacts([], "");

/** What all facts together say, with `root` as the identity that founded the mesh. */
export function foldFacts(facts: Iterable<SignedFact>, root: NodeId): MemberState {
  const draft: Draft = {
    root,
    members: new Map(),
    removed: new Map(),
    tickets: new Map(),
    revoked: new Set(),
    newestAt: 0,
  };
  const counted = new Set<string>();
  const ordered = [...facts].sort((a, b) => a.fact.at - b.fact.at || (a.hash < b.hash ? -1 : 1));
  for (const signed of ordered) {
    if (!apply(draft, signed)) continue;
    counted.add(signed.hash);
    // An admission may be made by anybody, so its time must not move the others.
    if (signed.fact.kind !== "admit") draft.newestAt = Math.max(draft.newestAt, signed.fact.at);
  }
  const { members, removed, tickets, newestAt } = draft;
  return { members, removed, tickets, counted, newestAt };
}

/** False when the fact does not count: its signer may not say that, or it changes nothing. */
function apply(draft: Draft, { fact, signer }: SignedFact): boolean {
  if (fact.kind === "found") return found(draft, fact, signer);
  const own = draft.members.get(signer);
  if (own === undefined) return false;
  if (fact.kind === "admit") return admit(draft, fact, signer);
  if (!own.roles.includes("administer")) return false;
  switch (fact.kind) {
    case "roles":
      if (draft.removed.has(fact.id)) return false;
      take(draft, { id: fact.id, roles: fact.roles, at: fact.at, by: signer });
      return true;
    case "ticket": {
      const { ticket, roles, uses, expires, at } = fact;
      if (draft.tickets.has(ticket)) return false;
      const isRevoked = draft.revoked.has(ticket);
      const made = { ticket, roles, uses, expires, isRevoked, used: [], by: signer, madeAt: at };
      draft.tickets.set(ticket, made);
      return true;
    }
    case "revoke": {
      draft.revoked.add(fact.ticket);
      const known = draft.tickets.get(fact.ticket);
      if (known !== undefined) draft.tickets.set(fact.ticket, { ...known, isRevoked: true });
      return true;
    }
    case "remove":
      draft.removed.set(fact.id, fact.at);
      draft.members.delete(fact.id);
      return true;
    default:
      return false;
  }
}

function found(draft: Draft, fact: Fact, signer: NodeId): boolean {
  if (signer !== draft.root || draft.members.size > 0 || draft.removed.has(signer)) return false;
  take(draft, { id: signer, roles: meshRoles, at: fact.at, by: signer });
  return true;
}

/** A newcomer with a ticket that is good: known, not revoked before, not used up. */
function admit(draft: Draft, fact: Fact & { kind: "admit" }, by: NodeId): boolean {
  const claim = claimOf(fact.claim);
  if (claim === null) return false;
  const { id, ticket } = claim.fact;
  const known = draft.tickets.get(ticket);
  if (known === undefined || known.isRevoked || draft.removed.has(id)) return false;
  if (known.used.includes(id)) return false;
  if (fact.at > Math.max(known.expires, draft.newestAt) + ADMIT_SLACK_MS) return false;
  if (known.uses > 0 && known.used.length >= known.uses) return false;
  draft.tickets.set(ticket, { ...known, used: [...known.used, id] });
  if (!draft.members.has(id)) take(draft, { id, roles: known.roles, at: fact.at, by });
  return true;
}

function take(
  draft: Draft,
  given: { id: NodeId; roles: readonly MeshRole[]; at: number; by: NodeId },
): void {
  const { id, roles, at, by } = given;
  const before = draft.members.get(id);
  draft.members.set(id, { id, roles, since: before?.since ?? at, by: before?.by ?? by });
}
