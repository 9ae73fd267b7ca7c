/** `node-mesh vm stop`: ends a VM. */
import type { Command } from "commander";
import { action, type CommonOptions, clientOf, withData } from "./context.ts";
import { print } from "./output.ts";
import { startProgress } from "./progress.ts";

export function addVmStop(vm: Command): void {
  withData(vm.command("stop"))
    .argument("<name>", "name or id of the VM")
    .summary("end a VM")
    .description(
      "Ends a VM for good, at one place of its execution on all its copies. It stays listed, with " +
        "its console, until `vm rm`.",
    )
    .action(
      action(async (name: string, options: CommonOptions) => {
        const progress = startProgress();
        progress.say("ending the VM");
        try {
          await clientOf(options).stop(name);
        } finally {
          progress.end();
        }
        print(`VM ${name} has ended\n`);
      }),
    );
}
