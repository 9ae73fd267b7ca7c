/**
 * What a scenario can demand, sentence by sentence. Judged at the end, when all faults are lifted
 * and every VM has gone on; a demand that does not hold says what was seen.
 */
import { type Sentence, sentence, type Who } from "./grammar.ts";
import { firstUnexplained } from "./linearizability.ts";
import type { World } from "./world.ts";

export interface Hold {
  readonly who: readonly Who[];
  readonly vms: readonly string[];
  /** Null when it holds, else what was seen. */
  judge(world: World): Promise<string | null>;
}

function hold(vms: readonly string[], judge: (world: World) => Promise<string | null>): Hold {
  return { who: [], vms, judge };
}

export const holdSentences: readonly Sentence<Hold>[] = [
  sentence("every line once", () => hold([], everyLineOnce)),
  sentence("one primary in a term", () => hold([], async (world) => world.terms.fault())),
  sentence("no pause of <vm> above <time>", ({ vm, time }) =>
    hold([vm], async (world) => {
      const pauseMs = world.watch(vm).longestPauseMs();
      if (pauseMs <= time.maxMs) return null;
      return `lines of ${vm} paused for ${(pauseMs / 1000).toFixed(1)} s`;
    }),
  ),
  sentence("linearizable answers of <vm>", ({ vm }) =>
    hold([vm], async (world) => {
      const history = world.store(vm).history();
      if (!history.some((operation) => operation.output !== null)) return "nothing was answered";
      return firstUnexplained(history);
    }),
  ),
  sentence("all whole within <time>", ({ time }) =>
    hold([], async (world) => {
      try {
        for (const vm of world.vmNames) await world.waitUntilWhole(vm, time.maxMs);
        return null;
      } catch (error) {
        return (error as Error).message;
      }
    }),
  ),
  sentence("nothing left behind", () => hold([], (world) => world.endAndLookForRemains())),
];

async function everyLineOnce(world: World): Promise<string | null> {
  for (const vm of world.vmNames) {
    const watch = world.watch(vm);
    const { seen, lost, duplicated, outOfOrder } = watch.verdict();
    if (seen === 0) return `${vm} printed no line`;
    if (lost + duplicated + outOfOrder + watch.gapBytes > 0) {
      return (
        `of ${seen} lines of ${vm} ${lost} were lost, ${duplicated} came again, ` +
        `${outOfOrder} came out of order; ${watch.gapBytes} bytes are missing`
      );
    }
  }
  return null;
}
