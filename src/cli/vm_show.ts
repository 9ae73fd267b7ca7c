/** `node-mesh vm show`: one VM in full. */
import type { Command } from "commander";
import type { MemberView, VmView } from "../api/schemas.ts";
import { action, type CommonOptions, clientOf, withJson } from "./context.ts";
import { age, facts, print, printJson, size, table } from "./output.ts";

const head = ["NODE", "ROLE", "STATE", "TERM", "LOG CHUNKS", "BEHIND", "ENGINE"];

export function addVmShow(vm: Command): void {
  withJson(vm.command("show"))
    .argument("<name>", "name or id of the VM")
    .option("--why", "why its copies are where they are, and where they could go")
    .summary("show a VM and where its copies are")
    .action(
      action(async (name: string, options: CommonOptions & { readonly why?: boolean }) => {
        if (options.why === true) return await explain(name, options);
        const view = await clientOf(options).vm(name);
        if (options.json === true) printJson(view);
        else
          print(
            `${describe(view)}\n${table(
              head,
              view.members.map((m) => row(m, view)),
            )}`,
          );
      }),
    );
}

async function explain(name: string, options: CommonOptions): Promise<void> {
  const nodes = await clientOf(options).placement(name);
  if (options.json === true) {
    printJson({ nodes });
    return;
  }
  const rows = nodes.map((node) => [
    node.name,
    node.role ?? "-",
    node.rank === null ? "-" : String(node.rank),
    node.domain === node.node ? "-" : node.domain,
    size(node.memory_free_bytes),
    node.why,
  ]);
  print(table(["NODE", "ROLE", "RANK", "DOMAIN", "MEMORY FREE", "WHY"], rows));
}

function describe(vm: VmView): string {
  const ended = vm.end_reason === null ? "" : ` (${vm.end_reason})`;
  const rows: [string, string][] = [
    ["VM", `${vm.name}  ${vm.id}`],
    ["state", `${vm.state}${ended}`],
    ["primary", vm.primary_name ?? "none"],
    ["memory", size(vm.memory_bytes)],
    ["command line", vm.cmdline],
    ["age", age(Date.now() - vm.created_ms)],
    ["guest time", `${(Number(vm.guest_ns) / 1e9).toFixed(1)} s, ${vm.steps} steps`],
    ["log", `${size(vm.log_bytes)} in ${vm.chunks} chunks, term ${vm.term}`],
    ["console", size(vm.console_bytes)],
  ];
  if (vm.commit_latency_ms !== null) {
    rows.push(["commit", `${vm.commit_latency_ms.toFixed(2)} ms at the median`]);
  }
  if (vm.end_report !== null && vm.end_report !== "") rows.push(["report", vm.end_report]);
  for (const member of vm.members) {
    if (member.failure !== null) rows.push([`failed on ${member.name}`, member.failure]);
  }
  return facts(rows);
}

function row(member: MemberView, vm: VmView): string[] {
  const unknown = member.state === "unreachable";
  const behind = member.role === "replica" ? vm.chunks - member.chunks : 0;
  return [
    member.name,
    member.role,
    member.leader ? `${member.state}, leads` : member.state,
    unknown ? "-" : String(member.term),
    unknown ? "-" : String(member.chunks),
    unknown || member.role !== "replica" ? "-" : String(Math.max(0, behind)),
    member.engine ?? "-",
  ];
}
