/** `node-mesh nodes`: the members of the mesh that this node knows. */
import type { Command } from "commander";
import type { NodeView } from "../api/schemas.ts";
import { action, type CommonOptions, clientOf, withJson } from "./context.ts";
import { print, printJson, size, table } from "./output.ts";

const head = ["NAME", "STATE", "VMS", "CPUS", "LOAD", "MEMORY FREE", "RTT", "ID"];

export function addNodes(program: Command): void {
  withJson(program.command("nodes"))
    .summary("list the nodes of the mesh")
    .description("Lists the nodes that this one knows, and what they lend.")
    .action(
      action(async (options: CommonOptions) => {
        const nodes = await clientOf(options).nodes();
        if (options.json === true) printJson({ nodes });
        else print(table(head, nodes.map(row)));
      }),
    );
}

function row(node: NodeView): string[] {
  const state = node.self ? "this node" : node.connected ? "connected" : "away";
  return [
    node.name,
    state,
    String(node.vms),
    node.cpus === 0 ? "-" : String(node.cpus),
    node.cpus === 0 ? "-" : `${node.load_percent}%`,
    node.memory_bytes === 0 ? "-" : `${size(node.memory_free_bytes)} of ${size(node.memory_bytes)}`,
    node.rtt_ms === null ? "-" : `${node.rtt_ms.toFixed(1)} ms`,
    node.id,
  ];
}
