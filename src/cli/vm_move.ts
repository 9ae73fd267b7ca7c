/** `node-mesh vm move`: puts a copy of a VM to another node while the VM runs. */
import type { Command } from "commander";
import { action, type CommonOptions, clientOf, interruption, withJson } from "./context.ts";
import { print, printJson } from "./output.ts";
import { startProgress } from "./progress.ts";

interface MoveOptions extends CommonOptions {
  readonly to?: string;
  readonly from?: string;
}

export function addVmMove(vm: Command): void {
  withJson(vm.command("move"))
    .argument("<name>", "name or id of the VM")
    .option("--to <node>", "where it goes: name or id of a node (default: where it fits best)")
    .option("--from <node>", "whose part moves (default: the primary's)")
    .summary("move a VM to another node while it runs")
    .description(
      "Takes the node in, brings it up to date, hands over to it, and drops the one whose place " +
        "it takes. If the node runs a copy already, that copy becomes the primary.",
    )
    .addHelpText("after", "\nExample:\n  node-mesh vm move web --to lab7")
    .action(action(moveVm));
}

async function moveVm(name: string, options: MoveOptions): Promise<void> {
  const progress = startProgress();
  const signal = interruption();
  const { to = null, from = null } = options;
  try {
    const onProgress = (text: string): void => progress.say(text);
    const vm = await clientOf(options).move(name, { to, from }, { onProgress, signal });
    progress.end();
    if (options.json === true) printJson(vm);
    else print(`VM ${vm.name} runs on ${vm.primary_name ?? "?"}\n`);
  } finally {
    progress.end();
    if (signal.aborted) process.exitCode = 130;
  }
}
