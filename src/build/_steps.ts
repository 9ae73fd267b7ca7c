/**
 * Runs named steps one after another, each under a heading, and ends with a table of how each went.
 * A step that fails does not keep later ones from running unless they need it.
 */
import { CommandError } from "./_command.ts";

export interface Step {
  readonly name: string;
  readonly run: () => Promise<void> | void;
  /** Names of steps without which this one makes no sense. */
  readonly needs?: readonly string[];
}

type Outcome = "passed" | "FAILED" | "left out";

interface Result {
  readonly name: string;
  readonly outcome: Outcome;
  readonly seconds: number;
}

const ruleColumns = 78;

/** Answers whether all steps passed. */
export async function runSteps(title: string, steps: readonly Step[]): Promise<boolean> {
  const results: Result[] = [];
  for (const step of steps) {
    heading(step.name);
    results.push(await runStep(step, results));
  }
  heading(`${title}: summary`);
  for (const result of results) {
    const seconds = `${result.seconds.toFixed(1)} s`.padStart(9);
    process.stdout.write(`  ${result.outcome.padEnd(9)} ${seconds}  ${result.name}\n`);
  }
  const failed = results.filter((result) => result.outcome !== "passed").length;
  const verdict = failed === 0 ? "all passed" : `${failed} of ${results.length} did not pass`;
  process.stdout.write(`${title}: ${verdict}\n`);
  return failed === 0;
}

async function runStep(step: Step, before: readonly Result[]): Promise<Result> {
  const passed = (name: string) => before.find((result) => result.name === name)?.outcome;
  const missing = (step.needs ?? []).find((name) => passed(name) !== "passed");
  if (missing !== undefined) {
    process.stdout.write(`left out: "${missing}" did not pass\n`);
    return { name: step.name, outcome: "left out", seconds: 0 };
  }
  const began = performance.now();
  let outcome: Outcome = "passed";
  try {
    await step.run();
  } catch (error) {
    outcome = "FAILED";
    const known = error instanceof CommandError || !(error instanceof Error);
    process.stdout.write(`${known ? error : (error.stack ?? error.message)}\n`);
  }
  return { name: step.name, outcome, seconds: (performance.now() - began) / 1000 };
}

function heading(text: string): void {
  process.stdout.write(`\n== ${text} ${"=".repeat(Math.max(0, ruleColumns - text.length - 4))}\n`);
}
