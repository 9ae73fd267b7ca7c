/** `node-mesh chaos`: scripted failures of real nodes on this machine, and what must hold. */
import { randomInt } from "node:crypto";
import type { Command } from "commander";
import type { ScenarioVerdict } from "../chaos/run_scenario.ts";
import { cannot } from "../user_error.ts";
import { action, duration, interruption, UsageError, wholeNumber } from "./context.ts";
import { selfCommand } from "./detach.ts";
import { print, printJson, table } from "./output.ts";

const seedMax = 2 ** 31 - 1;

interface ChaosOptions {
  readonly seed?: number;
  readonly json?: boolean;
  readonly keep?: boolean;
  readonly list?: boolean;
  readonly sentences?: boolean;
  readonly all?: boolean;
  readonly soak?: number;
}

export function addChaos(program: Command): void {
  program
    .command("chaos")
    .argument("[scenario]", "the name of one that comes along, or a file")
    .option(
      "--seed <n>",
      "the same choices again",
      wholeNumber("seed", { least: 0, most: seedMax }),
    )
    .option("--all", "run all that come along")
    .option("--soak <time>", "make up scenarios for so long, e.g. 30m", duration)
    .option("--list", "list those that come along")
    .option("--sentences", "what a scenario may say")
    .option("--keep", "keep the nodes' directories")
    .option("--json", "print verdicts as JSON")
    .summary("kill, cut and starve nodes by script, and check that nothing was lost")
    .description(
      "Runs a scenario on this machine with real nodes and VMs: they are killed, stopped, cut off, " +
        "their disks fill up, and in the end every line must have come exactly once. Exits with 1 " +
        "if something did not hold, and says where all logs are.",
    )
    .action(
      action(async (name: string | undefined, options: ChaosOptions) => {
        const given = [name, options.all, options.soak, options.list, options.sentences];
        if (given.filter((one) => one !== undefined).length !== 1) {
          throw new UsageError(
            'Cannot run "chaos": it needs one of a scenario, --all, --soak, --list and ' +
              "--sentences; try: node-mesh chaos --list",
          );
        }
        if (options.list === true) await list(options);
        else if (options.sentences === true) await sentences();
        else await run(name, options);
      }),
    );
}

async function list(options: ChaosOptions): Promise<void> {
  const { shippedScenarios } = await import("../chaos/library.ts");
  const { readScenario } = await import("../chaos/scenario.ts");
  const scenarios = [...shippedScenarios()].map(([name, text]) => readScenario(name, text));
  const rows = scenarios.map(({ name, title, needs }) => ({ name, title, needs: [...needs] }));
  const text = rows.map((row) => [row.name, row.title]);
  if (options.json === true) printJson({ scenarios: rows });
  else print(table(["name", "what happens"], text));
}

async function sentences(): Promise<void> {
  const { scenarioForms } = await import("../chaos/scenario.ts");
  print(`${scenarioForms.join("\n")}\n`);
}

async function run(name: string | undefined, options: ChaosOptions): Promise<void> {
  const { chaosTurns } = await import("../chaos/turns.ts");
  const { runScenario } = await import("../chaos/run_scenario.ts");
  const program = selfCommand();
  const signal = interruption();
  const seed = options.seed ?? randomInt(seedMax);
  let failed = 0;
  for (const turn of chaosTurns({ name, seed, soakMs: options.soak ?? null })) {
    const say = sayProgress(turn.scenario.title, options.json === true);
    const keep = options.keep === true;
    const verdict = await runScenario(turn.scenario, {
      program,
      seed: turn.seed,
      signal,
      say,
      keep,
    });
    if (signal.aborted) {
      throw cannot("finish", "chaos", { why: "it was interrupted", remedy: "run it again" });
    }
    if (options.json === true) print(`${JSON.stringify({ ...verdict, again: turn.again })}\n`);
    else tell(verdict, turn.again);
    if (verdict.good) continue;
    failed += 1;
    // What it was is to be looked at, not buried under more of it.
    if (options.soak !== undefined) break;
  }
  process.exit(failed === 0 ? 0 : 1);
}

function sayProgress(title: string, json: boolean): (text: string) => void {
  const began = performance.now();
  const stream = json ? process.stderr : process.stdout;
  stream.write(`${title}\n`);
  return (text) => {
    const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(6);
    stream.write(`${seconds} s  ${text}\n`);
  };
}

function tell(verdict: ScenarioVerdict, again: string): void {
  const { scenario, seed, skipped, failure, evidence } = verdict;
  const seconds = verdict.seconds.toFixed(1);
  if (skipped !== null) {
    print(`${scenario}: not run: ${skipped}\n\n`);
    return;
  }
  for (const { text, fault } of verdict.holds) {
    print(fault === null ? `  held: ${text}\n` : `  DID NOT HOLD: ${text}: ${fault}\n`);
  }
  if (failure !== null) print(`  FAILED at ${failure}\n`);
  for (const [vm, pauseMs] of Object.entries(verdict.pausesMs)) {
    print(`  longest pause of ${vm}: ${pauseMs} ms\n`);
  }
  if (evidence !== null) print(`  all logs: ${evidence}\n`);
  const end = verdict.good ? "passed" : `FAILED; again: ${again}`;
  print(`${scenario} (seed ${seed}, ${seconds} s): ${end}\n\n`);
}
