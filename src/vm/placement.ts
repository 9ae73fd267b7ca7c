/**
 * Which nodes a VM is offered to, and in which order: rendezvous hashing weighted by what a node
 * has, so that VMs spread evenly, every node would choose alike, and a node that comes or goes
 * moves few; then spread over failure domains. A pure function of its arguments; whether a node
 * accepts is that node's own decision.
 */
import { createHash } from "node:crypto";

export interface Candidate {
  readonly id: string;
  readonly name: string;
  /** Guest memory that this node still lends; 0 keeps copies away, not witnesses. */
  readonly memoryFreeBytes: number;
  /** All memory of the node: how much of the mesh it is. */
  readonly memoryBytes: number;
  /** What fails together; null: the node alone. */
  readonly domain: string | null;
}

export interface PlacementRequest {
  readonly vmId: string;
  readonly memoryBytes: number;
  readonly copies: number;
  readonly witnesses: number;
  /** Domains of members that the VM has already, one for each. */
  readonly usedDomains?: readonly string[];
}

export interface Placement {
  /** In the order in which to ask; the first `copies` that accept run one. */
  readonly replicas: readonly Candidate[];
  /** Who may be a witness, in the order in which to ask, replicas' candidates last. */
  readonly witnesses: readonly Candidate[];
}

export function domainOf(node: { readonly id: string; readonly domain: string | null }): string {
  return node.domain ?? node.id;
}

/**
 * How much a node is wanted for a VM: a random draw from the two names alone, in favour of nodes
 * with more memory in proportion to it.
 */
export function score(vmId: string, node: Candidate): number {
  const draw = createHash("sha256").update(`${vmId}\n${node.id}`).digest().readUIntBE(0, 6);
  const uniform = (draw + 1) / (2 ** 48 + 1);
  return -Math.max(1, node.memoryBytes) / Math.log(uniform);
}

/** The order in which the candidates of a VM are asked. */
export function place(request: PlacementRequest, candidates: readonly Candidate[]): Placement {
  const ranked = candidates
    .map((candidate) => ({ candidate, rank: score(request.vmId, candidate) }))
    .sort((a, b) => b.rank - a.rank || (a.candidate.id < b.candidate.id ? -1 : 1))
    .map((entry) => entry.candidate);
  const used = new Map<string, number>();
  for (const domain of request.usedDomains ?? []) used.set(domain, (used.get(domain) ?? 0) + 1);
  const roomy = ranked.filter((node) => node.memoryFreeBytes >= request.memoryBytes);
  const tight = ranked.filter((node) => node.memoryFreeBytes < request.memoryBytes);
  const replicas = spread(roomy, used);
  for (const node of replicas.slice(0, request.copies)) count(used, domainOf(node));
  const witnesses = spread([...tight, ...roomy.reverse()], used);
  return { replicas, witnesses };
}

/** The same nodes; one whose domain holds fewer of those before it comes first. */
function spread(nodes: readonly Candidate[], before: ReadonlyMap<string, number>): Candidate[] {
  const used = new Map(before);
  const left = [...nodes];
  const order: Candidate[] = [];
  while (left.length > 0) {
    let best = 0;
    for (const [index, node] of left.entries()) {
      const isFreer = (used.get(domainOf(node)) ?? 0) < (used.get(domainOf(left[best]!)) ?? 0);
      if (isFreer) best = index;
    }
    const [next] = left.splice(best, 1) as [Candidate];
    count(used, domainOf(next));
    order.push(next);
  }
  return order;
}

function count(used: Map<string, number>, domain: string): void {
  used.set(domain, (used.get(domain) ?? 0) + 1);
}
