/** The nodes that a VM may be offered to, from what they announce. Each one may still refuse. */
import type { Mesh } from "../../mesh/mod.ts";
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
    }));
  if (!mesh.may(mesh.id, "lend") || !host.takes) return others;
  return [{ id: mesh.id, name: mesh.name, memoryFreeBytes: host.memoryFreeBytes() }, ...others];
}
