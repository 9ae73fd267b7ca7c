/** Runs one scenario from its first sentence to the verdict on each of its demands. */
import type { Program } from "../demo/cluster.ts";
import { Prng } from "../prng.ts";
import { oneLine } from "../user_error.ts";
import { missingHere } from "./faults.ts";
import type { Scenario } from "./scenario.ts";
import { World } from "./world.ts";

export interface HoldVerdict {
  readonly text: string;
  /** Null when it held; else what was seen. */
  readonly fault: string | null;
}

export interface ScenarioVerdict {
  readonly scenario: string;
  readonly seed: number;
  readonly seconds: number;
  readonly good: boolean;
  /** What this machine lacks, if it could not run at all. */
  readonly skipped: string | null;
  /** The sentence that could not be carried out, and why. */
  readonly failure: string | null;
  readonly holds: readonly HoldVerdict[];
  readonly pausesMs: Readonly<Record<string, number>>;
  /** Where all logs are, when something went wrong. */
  readonly evidence: string | null;
}

export interface RunOptions {
  readonly program: Program;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
  /** Keep the nodes' directories even if all is well. */
  readonly keep?: boolean;
}

export async function runScenario(
  scenario: Scenario,
  options: RunOptions,
): Promise<ScenarioVerdict> {
  const began = performance.now();
  const { seed, say, signal } = options;
  const blank = { scenario: scenario.name, seed, failure: null, holds: [], pausesMs: {} };
  const skipped = missingHere(scenario.needs);
  if (skipped !== null) return { ...blank, skipped, seconds: 0, good: true, evidence: null };
  const world = new World({ ...options, scenario, prng: new Prng(seed) });
  let good = false;
  try {
    const failure = await carryOut(world, { scenario, say });
    const holds = failure === null ? await judge(world, scenario) : [];
    good = failure === null && holds.every((hold) => hold.fault === null);
    return {
      ...blank,
      seconds: (performance.now() - began) / 1000,
      good,
      skipped: null,
      failure,
      holds,
      pausesMs: failure === null ? pauses(world) : {},
      evidence: good && options.keep !== true ? null : world.cluster.directory,
    };
  } finally {
    const keep = options.keep === true || (!good && !signal.aborted);
    await world.close({ keep });
  }
}

/** Null when every sentence was carried out. */
async function carryOut(
  world: World,
  options: { readonly scenario: Scenario; readonly say: (text: string) => void },
): Promise<string | null> {
  let doing = "the start";
  try {
    await world.open();
    for (const { number, text, meaning } of options.scenario.steps) {
      doing = `line ${number}, "${text}"`;
      options.say(text);
      await meaning.run(world);
    }
    doing = "the end, when all faults were lifted";
    await world.recover();
    return null;
  } catch (error) {
    return `${doing}: ${oneLine(error)}`;
  }
}

async function judge(world: World, scenario: Scenario): Promise<HoldVerdict[]> {
  const verdicts: HoldVerdict[] = [];
  for (const { text, meaning } of scenario.holds) {
    verdicts.push({ text: text.replace(/^hold\s+/, ""), fault: await meaning.judge(world) });
  }
  return verdicts;
}

function pauses(world: World): Record<string, number> {
  return Object.fromEntries(
    world.vmNames.map((vm) => [vm, Math.round(world.watch(vm).longestPauseMs())]),
  );
}
