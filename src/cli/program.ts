/** The command line as a whole: its verbs, its help, and what wrong usage is. */
import { Command, CommanderError } from "commander";
import { version } from "../version.ts";
import { addChaos } from "./chaos.ts";
import { exitUsage, fail, UsageError } from "./context.ts";
import { addDashboard } from "./dashboard.ts";
import { addDemo } from "./demo.ts";
import { addDoctor } from "./doctor.ts";
import { addDown } from "./down.ts";
import { addEvents } from "./events.ts";
import { addMonitorVerbs } from "./handover.ts";
import { addInstall } from "./install.ts";
import { addJoin } from "./join.ts";
import { addLicenses } from "./licenses.ts";
import { addNode } from "./node.ts";
import { addNodes } from "./nodes.ts";
import { addStatus } from "./status.ts";
import { addTicket } from "./ticket.ts";
import { addTop } from "./top.ts";
import { addUp } from "./up.ts";
import { addVmConsole } from "./vm_console.ts";
import { addVmLogs } from "./vm_logs.ts";
import { addVmLs } from "./vm_ls.ts";
import { addVmMove } from "./vm_move.ts";
import { addVmRm } from "./vm_rm.ts";
import { addVmRun } from "./vm_run.ts";
import { addVmShow } from "./vm_show.ts";
import { addVmStop } from "./vm_stop.ts";

export function makeProgram(): Command {
  const program = new Command("node-mesh")
    .description("Machines as one cloud whose virtual machines survive the failure of any machine.")
    .version(version, "-V, --version", "print the version")
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .addHelpText(
      "after",
      "\nA first VM on three machines:\n  a$ node-mesh up -d && node-mesh ticket\n" +
        "  b$ node-mesh join -d nm1:...\n  c$ node-mesh join -d nm1:...\n" +
        "  a$ node-mesh vm run first && node-mesh vm logs -f first",
    );
  addUp(program);
  addJoin(program);
  addDown(program);
  addTicket(program);
  addNodes(program);
  addNode(program);
  addStatus(program);
  addTop(program);
  addEvents(program);
  addDashboard(program);
  addDoctor(program);
  const vm = program.command("vm").summary("start, watch, use and end VMs");
  vm.description("Virtual machines. Any node answers for any VM.");
  for (const add of [
    addVmRun,
    addVmLs,
    addVmShow,
    addVmLogs,
    addVmConsole,
    addVmMove,
    addVmStop,
    addVmRm,
  ]) {
    add(vm);
  }
  addMonitorVerbs(program);
  addDemo(program);
  addChaos(program);
  addInstall(program);
  addLicenses(program);
  return program;
}

/** Parses and runs. Ends the process where a verb does not. */
export async function runProgram(argv: readonly string[]): Promise<void> {
  const program = makeProgram();
  for (const command of allCommands(program)) {
    command.exitOverride();
    command.configureOutput({ outputError: () => {} });
  }
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    if (error instanceof UsageError) fail(error);
    if (!(error instanceof CommanderError)) fail(error);
    // Help and version were asked for.
    if (error.exitCode === 0) process.exit(0);
    if (error.code !== "commander.help") {
      const text = error.message.replace(/^error: /, "").replace(/\s*\n\s*/g, " ");
      process.stderr.write(`Cannot understand the command: ${text}; see: node-mesh --help\n`);
    }
    process.exit(exitUsage);
  }
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}
