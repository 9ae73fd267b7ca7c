/** `node-mesh join`: starts a node as a member of an existing mesh. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { cannot, oneLine } from "../user_error.ts";
import { action } from "./context.ts";
import { type NodeOptions, withNodeOptions } from "./node_options.ts";

export function addJoin(program: Command): void {
  withNodeOptions(program.command("join"))
    .argument("<ticket>", "what `node-mesh ticket` prints, or the multiaddr of a member")
    .option("--key <file>", "the mesh key, when a multiaddr is given (also NODE_MESH_KEY)")
    .summary("start a node and join a mesh")
    .description("Starts a node in the foreground as a member of the mesh that the ticket is for.")
    .addHelpText(
      "after",
      "\nExamples:\n  node-mesh join nm1:...\n  node-mesh join -d --listen 0.0.0.0:4002 nm1:...\n" +
        "  node-mesh join /ip4/192.0.2.7/tcp/4001/p2p/12D3... --key mesh.key\n" +
        "The last one is for a node that is a member already; a new one needs a ticket.",
    )
    .action(
      action(async (ticket: string, options: NodeOptions & { readonly key?: string }) => {
        const { runNode } = await import("./run_node.ts");
        const { meshKeyFromText, parseJoinTarget } = await import("../../mesh/mod.ts");
        const text = givenKey(options.key);
        const key = text === null ? {} : { key: meshKeyFromText(text) };
        const target = parseJoinTarget(ticket, key);
        await runNode(options, { join: target });
      }),
    );
}

function givenKey(file: string | undefined): string | null {
  if (file === undefined) {
    const text = process.env["NODE_MESH_KEY"] ?? "";
    return text === "" ? null : text.trim();
  }
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    throw cannot("use the mesh key in", file, { why: oneLine(error), remedy: "check --key" });
  }
}
