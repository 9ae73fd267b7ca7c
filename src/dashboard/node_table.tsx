/** The nodes in words and numbers: the same as the picture, for every screen and reader. */
import type { NodeView } from "./api.ts";
import { size } from "./format.ts";
import type { MeshState } from "./store.ts";

export function NodeTable({ mesh }: { mesh: MeshState }) {
  const hasDomains = mesh.nodes.some(({ domain }) => domain !== null);
  return (
    <section class="scroll" tabIndex={0} aria-label="Nodes">
      <table>
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col">State</th>
            {hasDomains && <th scope="col">Domain</th>}
            <th scope="col" class="number">
              Load
            </th>
            <th scope="col" class="number">
              Memory free
            </th>
            <th scope="col" class="number">
              VMs
            </th>
            <th scope="col" class="number">
              Latency
            </th>
          </tr>
        </thead>
        <tbody>
          {mesh.nodes.map((node) => (
            <tr key={node.id} class={node.connected ? "" : "away"}>
              <th scope="row">{node.name}</th>
              <td>{node.self ? "this node" : node.connected ? "connected" : "away"}</td>
              {hasDomains && <td>{node.domain ?? "–"}</td>}
              <td class="number">{node.cpus === 0 ? "–" : `${node.load_percent} %`}</td>
              <td class="number">{memory(node)}</td>
              <td class="number">{node.vms}</td>
              <td class="number">{latency(node)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function memory(node: NodeView): string {
  if (node.memory_bytes === 0) return "–";
  return `${size(node.memory_free_bytes)} of ${size(node.memory_bytes)}`;
}

function latency(node: NodeView): string {
  return node.rtt_ms === null || !node.connected ? "–" : `${node.rtt_ms.toFixed(1)} ms`;
}
