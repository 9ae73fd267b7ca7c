/** Which scenarios a run of `chaos` goes through, and how to see each again. */
import { missingHere, type Need } from "./faults.ts";
import { findScenario, shippedScenarios } from "./library.ts";
import { readScenario, type Scenario } from "./scenario.ts";
import { makeUpScenario } from "./soak.ts";

export interface ChaosTurn {
  readonly scenario: Scenario;
  readonly seed: number;
  /** The command that shows it again. */
  readonly again: string;
}

export interface TurnOptions {
  /** A scenario's name or file; without one all that come along. */
  readonly name: string | undefined;
  readonly seed: number;
  /** Make up scenarios for so long instead; null not to. */
  readonly soakMs: number | null;
}

export function* chaosTurns(options: TurnOptions): Generator<ChaosTurn> {
  const { name, seed, soakMs } = options;
  if (soakMs !== null) return yield* madeUp(seed, soakMs);
  const names = name === undefined ? [...shippedScenarios().keys()] : [name];
  for (const one of names) {
    const again = `node-mesh chaos ${one} --seed ${seed}`;
    yield { scenario: findScenario(one), seed, again };
  }
}

function* madeUp(firstSeed: number, soakMs: number): Generator<ChaosTurn> {
  const network = missingHere(new Set<Need>(["network"])) === null;
  const endMs = performance.now() + soakMs;
  for (let seed = firstSeed; performance.now() < endMs || seed === firstSeed; seed += 1) {
    const text = makeUpScenario(seed, { network });
    const again = `node-mesh chaos --soak 1s --seed ${seed}`;
    yield { scenario: readScenario(`soak-${seed}`, text), seed, again };
  }
}
