/** `node-mesh vm ls`: all VMs of the mesh. */
import type { Command } from "commander";
import type { VmView } from "../api/schemas.ts";
import { action, type CommonOptions, clientOf, withJson } from "./context.ts";
import { age, print, printJson, size, table } from "./output.ts";

const head = ["NAME", "STATE", "PRIMARY", "COPIES", "MEMORY", "AGE", "LOG", "CONSOLE"];

export function addVmLs(vm: Command): void {
  withJson(vm.command("ls"))
    .summary("list the VMs")
    .description("Lists the VMs of all nodes that answer.")
    .action(
      action(async (options: CommonOptions) => {
        const vms = await clientOf(options).vms();
        if (options.json === true) printJson({ vms });
        else if (vms.length === 0) print("there is no VM yet; start one: node-mesh vm run NAME\n");
        else print(table(head, vms.map(row)));
      }),
    );
}

function row(vm: VmView): string[] {
  return [
    vm.name,
    vm.end_reason === null ? vm.state : `${vm.state} (${vm.end_reason})`,
    vm.primary_name ?? "-",
    `${vm.copies_ready} of ${vm.copies}`,
    size(vm.memory_bytes),
    age(Date.now() - vm.created_ms),
    size(vm.log_bytes),
    size(vm.console_bytes),
  ];
}
