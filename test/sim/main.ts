/**
 * Runs seeds of the simulator: `main.ts --seeds 10000 --from 0`, or one of them with
 * `--seed N [--trace] [--canary NAME]`. The first seed that breaks a promise ends it with status 1
 * and the command that shows it again.
 */

import { parseArgs } from "node:util";
import { CANARIES, type Canary, isCanary } from "./canaries.ts";
import { Violation } from "./checkers.ts";
import { type RunResult, runSeed } from "./cluster.ts";

interface Options {
  readonly from: number;
  readonly seeds: number;
  readonly isTraced: boolean;
  readonly canary: Canary | null;
}

function main(): number {
  const options = readOptions();
  if (typeof options === "string") {
    console.error(options);
    return 2;
  }
  const startedMs = performance.now();
  const totals = { outputs: 0, entries: 0, recoveryTicksMax: 0, slowestSeed: 0 };
  const print = options.isTraced ? (line: string) => console.log(line) : null;
  for (let seed = options.from; seed < options.from + options.seeds; seed += 1) {
    let result: RunResult;
    try {
      result = runSeed(seed, { canary: options.canary, print });
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      const canary = options.canary === null ? "" : ` --canary ${options.canary}`;
      console.error(`seed ${seed}: ${error.message}`);
      if (error.cause instanceof Error) console.error(error.cause.stack);
      console.error(`see it again: npm run sim -- --seed ${seed} --trace${canary}`);
      return 1;
    }
    totals.outputs += result.outputCount;
    totals.entries += result.commit;
    if (result.recoveryTicks > totals.recoveryTicksMax) {
      totals.recoveryTicksMax = result.recoveryTicks;
      totals.slowestSeed = seed;
    }
    if (options.seeds === 1) console.log(`seed ${seed}: trace hash ${result.hash}`);
  }
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  console.log(
    `${options.seeds} seeds from ${options.from} hold, in ${seconds} s: ` +
      `${totals.entries} entries committed, ${totals.outputs} outputs, slowest recovery ` +
      `${totals.recoveryTicksMax} ticks (seed ${totals.slowestSeed})`,
  );
  return 0;
}

/** The options, or why they are no good. */
function readOptions(): Options | string {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      seeds: { type: "string", default: "1000" },
      from: { type: "string", default: "0" },
      trace: { type: "boolean", default: false },
      canary: { type: "string" },
    },
  });
  const from = Number(values.seed ?? values.from);
  const seeds = values.seed === undefined ? Number(values.seeds) : 1;
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(seeds) || from < 0 || seeds < 1) {
    return "Cannot run these seeds: --seed, --seeds and --from take whole numbers";
  }
  const { canary = null } = values;
  if (canary !== null && !isCanary(canary)) {
    return `Cannot find canary "${canary}": there are ${Object.keys(CANARIES).join(", ")}`;
  }
  return { from, seeds, isTraced: values.trace, canary };
}

process.exitCode = main();
