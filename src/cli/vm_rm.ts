/** `node-mesh vm rm`: removes a VM from all its nodes. */
import type { Command } from "commander";
import { action, type CommonOptions, clientOf, withData } from "./context.ts";
import { print } from "./output.ts";
import { startProgress } from "./progress.ts";

export function addVmRm(vm: Command): void {
  withData(vm.command("rm"))
    .argument("<name...>", "names or ids of VMs")
    .summary("remove VMs, running or ended")
    .description(
      "Removes VMs from all their nodes, with their logs and consoles. There is no way back.",
    )
    .action(
      action(async (names: readonly string[], options: CommonOptions) => {
        for (const name of names) {
          const progress = startProgress();
          progress.say(`removing VM ${name}`);
          try {
            await clientOf(options).remove(name);
          } finally {
            progress.end();
          }
          print(`VM ${name} is removed\n`);
        }
      }),
    );
}
