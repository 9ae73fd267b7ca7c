/** `node-mesh up`: starts a node; a new mesh if it has none. */
import type { Command } from "commander";
import { action } from "./context.ts";
import { type NodeOptions, withNodeOptions } from "./node_options.ts";

export function addUp(program: Command): void {
  withNodeOptions(program.command("up"))
    .summary("start a node (a new mesh if it has none)")
    .description(
      "Starts a node in the foreground. The first start makes a new mesh, whose key stays in the " +
        "data directory; later starts go on where the node stopped, with all its VMs.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  node-mesh up\n  node-mesh up -d --name desk --listen 0.0.0.0:4001\n" +
        "  node-mesh up --data /srv/mesh --listen 127.0.0.1:0",
    )
    .action(
      action(async (options: NodeOptions) => {
        // The mesh is loaded by the verbs that run a node alone: the others start faster.
        const { runNode } = await import("./run_node.ts");
        await runNode(options, {});
      }),
    );
}
