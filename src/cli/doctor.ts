/** `node-mesh doctor`: what this machine can do for the mesh, what is missing, and what to do. */
import type { Command } from "commander";
import { action, type CommonOptions, dataDirOf, exitFailed, withJson } from "./context.ts";
import { examine, type Finding } from "./doctor_checks.ts";
import { print, printJson } from "./output.ts";

const marks = { good: "ok  ", note: "note", bad: "BAD " } as const;

export function addDoctor(program: Command): void {
  withJson(program.command("doctor"))
    .summary("say what this machine can do, and what is missing")
    .description("Examines this machine. Needs no running node. Exit status 1 if something is bad.")
    .action(
      action(async (options: CommonOptions) => {
        const findings = await examine(dataDirOf(options));
        if (options.json === true) printJson({ findings });
        else for (const finding of findings) print(line(finding));
        if (findings.some((finding) => finding.state === "bad")) process.exitCode = exitFailed;
      }),
    );
}

function line(finding: Finding): string {
  const remedy = finding.remedy === undefined ? "" : `\n           -> ${finding.remedy}`;
  return `${marks[finding.state]}  ${finding.what.padEnd(10)}  ${finding.found}${remedy}\n`;
}
