/**
 * Which nodes a new VM is offered to, and in which order: rendezvous hashing over the nodes that
 * are connected and willing, so that VMs spread evenly and every node would choose alike. A pure
 * function of its arguments; whether a node accepts is that node's own decision.
 */
import { createHash } from "node:crypto";

export interface Candidate {
  readonly id: string;
  readonly name: string;
  /** Guest memory that this node still lends; 0 keeps copies away, not witnesses. */
  readonly memoryFreeBytes: number;
}

export interface PlacementRequest {
  readonly vmId: string;
  readonly memoryBytes: number;
  readonly copies: number;
  readonly witnesses: number;
}

export interface Placement {
  /** In the order in which to ask; the first `copies` that accept run one. */
  readonly replicas: readonly Candidate[];
  /** Who may be a witness, in the order in which to ask, replicas' candidates last. */
  readonly witnesses: readonly Candidate[];
}

/** Uniform over 48 bits, from the VM and the node alone. */
function weight(vmId: string, nodeId: string): number {
  return createHash("sha256").update(`${vmId}\n${nodeId}`).digest().readUIntBE(0, 6);
}

/** The order in which the candidates of a VM are asked. */
export function place(request: PlacementRequest, candidates: readonly Candidate[]): Placement {
  const ranked = candidates
    .map((candidate) => ({ candidate, rank: weight(request.vmId, candidate.id) }))
    .sort((a, b) => b.rank - a.rank || (a.candidate.id < b.candidate.id ? -1 : 1))
    .map((entry) => entry.candidate);
  const roomy = ranked.filter((node) => node.memoryFreeBytes >= request.memoryBytes);
  const tight = ranked.filter((node) => node.memoryFreeBytes < request.memoryBytes);
  return { replicas: roomy, witnesses: [...tight, ...[...roomy].reverse()] };
}
