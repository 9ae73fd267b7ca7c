/** `node-mesh node`: what is done to members of the mesh. */
import type { Command } from "commander";
import type { MeshRole } from "../../mesh/membership/roles.ts";
import {
  action,
  type CommonOptions,
  clientOf,
  interruption,
  roleList,
  withData,
} from "./context.ts";
import { print } from "./output.ts";
import { startProgress } from "./progress.ts";

const pollMs = 500;

export function addNode(program: Command): void {
  const node = program
    .command("node")
    .summary("remove a node, or change what it may do")
    .description("Members of the mesh. Needs the role `administer`.");
  withData(node.command("remove"))
    .argument("<node>", "its name or id")
    .summary("remove a node from the mesh for good")
    .description(
      "Every member refuses the node from now on. Its identity never belongs again; the machine " +
        "can join anew with another data directory and a new ticket.",
    )
    .action(
      action(async (name: string, options: CommonOptions) => {
        await clientOf(options).removeNode(name);
        print(`node ${name} is removed\n`);
      }),
    );
  addDrain(node);
  withData(node.command("roles"))
    .argument("<node>", "its name or id")
    .argument("<list>", "lend, use, administer, or none", roleList)
    .summary("say what a node may do")
    .description(
      "lend: hold copies of VMs. use: make VMs, and act on those that it made. administer: act on " +
        "all VMs, make tickets, give roles, remove nodes.",
    )
    .action(
      action(async (name: string, roles: readonly MeshRole[], options: CommonOptions) => {
        await clientOf(options).setRoles(name, roles);
        print(`node ${name} may ${roles.length === 0 ? "do nothing" : roles.join(", ")}\n`);
      }),
    );
}

function addDrain(node: Command): void {
  withData(node.command("drain"))
    .argument("[node]", "its name or id (default: the node that is asked)")
    .option("--undo", "let it take VMs in again")
    .summary("move all VMs off a node, and let it take no more")
    .description(
      "Waits until the node holds no running VM. It stays drained, also after a restart, until " +
        "`node drain --undo`.",
    )
    .action(action(drain));
}

async function drain(
  name: string | undefined,
  options: CommonOptions & { readonly undo?: boolean },
): Promise<void> {
  const client = clientOf(options);
  const node = name ?? (await client.status()).id;
  await client.drain(node, options.undo !== true);
  if (options.undo === true) {
    print(`node ${name ?? "here"} takes VMs in again\n`);
    return;
  }
  const progress = startProgress();
  const signal = interruption();
  try {
    for (;;) {
      const left = await client.vmsOf(node);
      if (left.length === 0 || signal.aborted) break;
      progress.say(`moving ${left.join(", ")}`);
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  } finally {
    progress.end();
  }
  // It goes on without whoever watched.
  if (signal.aborted) process.exitCode = 130;
  else print(`node ${name ?? "here"} is drained\n`);
}
