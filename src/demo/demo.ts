/** Runs the demonstration for a person: progress as lines, the verdict as a table, a status. */
import { interruption } from "../cli/context.ts";
import { facts } from "../cli/output.ts";
import { oneLine } from "../user_error.ts";
import type { Program } from "./cluster.ts";
import { type DemoVerdict, runDemo } from "./scenario.ts";

export async function demo(
  program: Program,
  options: { readonly json?: boolean } = {},
): Promise<void> {
  const signal = interruption();
  const began = performance.now();
  const say = (text: string): void => {
    const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(6);
    const stream = options.json === true ? process.stderr : process.stdout;
    stream.write(`${seconds} s  ${text}\n`);
  };
  try {
    const verdict = await runDemo({ program, say, signal });
    process.stdout.write(
      options.json === true ? `${JSON.stringify(verdict, null, 2)}\n` : describe(verdict),
    );
    process.exit(verdict.good ? 0 : 1);
  } catch (error) {
    process.stderr.write(`Cannot finish "demo": ${oneLine(error)}; run it again to see\n`);
    process.exit(signal.aborted ? 130 : 1);
  }
}

function describe(verdict: DemoVerdict): string {
  const rows: [string, string][] = [
    ["lines seen", String(verdict.seen)],
    ["lost", String(verdict.lost)],
    ["duplicated", String(verdict.duplicated)],
    ["out of order", String(verdict.outOfOrder)],
    ...verdict.switches.map((one): [string, string] => [
      `switch from ${one.killed} to ${one.next}`,
      `next line ${one.pauseMs.toFixed(0)} ms late, new primary after ${one.primaryMs.toFixed(0)} ms`,
    ]),
    ["log", `${verdict.logBytesPerSecond.toFixed(0)} bytes a second`],
  ];
  const end = verdict.good ? "Nothing was lost." : "SOMETHING WAS LOST.";
  return `\n${facts(rows)}${end}\n`;
}
