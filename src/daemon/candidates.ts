/** The nodes that a VM may be offered to, from what they announce. Each one may still refuse. */
import { totalmem } from "node:os";
import type { Mesh, NodeId } from "../../mesh/mod.ts";
import type { Candidate } from "../vm/placement.ts";
import type { VmHost } from "./vm_host.ts";

/** Connected members that lend and take VMs in, this one too if it does. */
export function candidatesOf(mesh: Mesh, host: VmHost): Candidate[] {
  const others = mesh.directory
    .nodes()
    .filter((node) => node.id !== mesh.id && mesh.node.isConnected(node.id))
    .filter((node) => mesh.may(node.id, "lend"))
    .filter((node) => node.capacity["memory_free_bytes"] !== undefined)
    .filter((node) => node.capacity["takes"] !== 0)
    .map((node) => ({
      id: node.id,
      name: node.name,
      memoryFreeBytes: node.capacity["memory_free_bytes"] ?? 0,
      memoryBytes: node.capacity["memory_bytes"] ?? 0,
      domain: node.labels["domain"] ?? null,
    }));
  if (!mesh.may(mesh.id, "lend") || !host.takes) return others;
  const { id, name } = mesh;
  const domain = domainsOf(mesh).get(id) ?? null;
  const memoryFreeBytes = host.memoryFreeBytes();
  return [{ id, name, memoryFreeBytes, memoryBytes: totalmem(), domain }, ...others];
}

/** The failure domain of each node that names one. */
export function domainsOf(mesh: Mesh): ReadonlyMap<NodeId, string> {
  const domains = new Map<NodeId, string>();
  for (const { id, labels } of mesh.directory.nodes()) {
    const domain = labels["domain"];
    if (domain !== undefined) domains.set(id, domain);
  }
  return domains;
}
