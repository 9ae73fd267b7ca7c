/** Why a VM is where it is, and where it could go: each node's rank, room and domain, in words. */
import { type Static, Type } from "@sinclair/typebox";
import type { Member, Mesh } from "../../mesh/mod.ts";
import { domainOf, score } from "../vm/placement.ts";
import type { VmSpec } from "../vm/vm_spec.ts";
import { candidatesOf, domainsOf } from "./candidates.ts";
import type { VmHost } from "./vm_host.ts";

export const PlacementRowSchema = Type.Object({
  node: Type.String(),
  name: Type.String(),
  /** What it is for the VM; null: nothing. */
  role: Type.Union([Type.String(), Type.Null()]),
  /** 1: first choice by the draw for this VM, weighted by memory; null: not to be asked. */
  rank: Type.Union([Type.Integer(), Type.Null()]),
  domain: Type.String(),
  memory_free_bytes: Type.Number(),
  why: Type.String(),
});
export const PlacementSchema = Type.Object({ nodes: Type.Array(PlacementRowSchema) });
export type PlacementRow = Static<typeof PlacementRowSchema>;

export function explainPlacement(
  parts: { readonly mesh: Mesh; readonly host: VmHost },
  vm: { readonly spec: VmSpec; readonly members: readonly Member[] },
): PlacementRow[] {
  const { mesh, host } = parts;
  const { spec, members } = vm;
  const roles = new Map(members.map(({ id, role }) => [id, role]));
  const ranked = candidatesOf(mesh, host).sort((a, b) => score(spec.id, b) - score(spec.id, a));
  const rankOf = new Map(ranked.map((node, index) => [node.id, index + 1]));
  const domains = domainsOf(mesh);
  const taken = new Map<string, number>();
  for (const { id } of members) {
    const domain = domains.get(id) ?? id;
    taken.set(domain, (taken.get(domain) ?? 0) + 1);
  }
  const nodes = mesh.directory.nodes();
  const absent = members.filter(({ id }) => nodes.every((node) => node.id !== id));
  const rows = nodes.map((node): PlacementRow => {
    const domain = domainOf({ id: node.id, domain: domains.get(node.id) ?? null });
    const free = node.capacity["memory_free_bytes"] ?? 0;
    const role = roles.get(node.id) ?? null;
    const known = { node: node.id, name: node.name, role, domain, memory_free_bytes: free };
    const rank = rankOf.get(node.id) ?? null;
    const asked = { role, rank, fits: free >= spec.memoryBytes };
    return { ...known, rank, why: reason(asked, mesh, { node, shared: taken.get(domain) ?? 0 }) };
  });
  for (const { id, role } of absent) {
    const why = "a member that is away";
    const unknown = { domain: id, memory_free_bytes: 0, rank: null };
    rows.push({ node: id, name: `…${id.slice(-8)}`, role, ...unknown, why });
  }
  return rows.sort((a, b) => (a.rank ?? 1e9) - (b.rank ?? 1e9));
}

function reason(
  asked: { readonly role: string | null; readonly rank: number | null; readonly fits: boolean },
  mesh: Mesh,
  place: {
    readonly node: { readonly id: string; readonly connected: boolean };
    readonly shared: number;
  },
): string {
  const { node, shared } = place;
  if (asked.role !== null) return shared > 1 ? "a member, beside one of its domain" : "a member";
  if (!node.connected) return "not connected";
  if (!mesh.may(node.id, "lend")) return "it has not the role to lend";
  if (asked.rank === null) return "it takes no VM in";
  if (!asked.fits) return "a witness at most: too little free memory";
  return shared > 0 ? "a spare, in the domain of a member" : "a spare";
}
