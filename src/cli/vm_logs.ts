/** `node-mesh vm logs`: what a VM wrote to its console. */
import type { Command } from "commander";
import { followConsole } from "./console_follow.ts";
import { action, type CommonOptions, clientOf, interruption, withData } from "./context.ts";

export function addVmLogs(vm: Command): void {
  withData(vm.command("logs"))
    .argument("<name>", "name or id of the VM")
    .option("-f, --follow", "go on with what comes, until the VM ends")
    .summary("print what a VM wrote to its console")
    .description(
      "Prints the console of a VM from its start (its newest 4 MiB). With -f it follows, through " +
        "every switch of the primary, each byte once.",
    )
    .action(
      action(async (name: string, options: CommonOptions & { readonly follow?: boolean }) => {
        const signal = interruption();
        const note = (text: string): void => {
          process.stderr.write(`[${text}]\n`);
        };
        const how = await followConsole(clientOf(options), name, {
          follow: options.follow === true,
          signal,
          onBytes: (bytes) => process.stdout.write(bytes),
          onGap: (bytes) => note(`${bytes} older bytes are not kept any more`),
          onTrouble: note,
        });
        if (how === "ended" && options.follow === true) note(`VM ${name} has ended`);
      }),
    );
}
