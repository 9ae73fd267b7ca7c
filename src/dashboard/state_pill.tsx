/** A state as a word beside a mark: colour is never the only sign. */
import { toneOf, words } from "./format.ts";

const marks = { good: "●", busy: "◐", bad: "▲", calm: "○" } as const;

export function StatePill({ state }: { state: string }) {
  const tone = toneOf(state);
  return (
    <span class={`pill ${tone}`}>
      <span aria-hidden="true">{marks[tone]}</span> {words(state)}
    </span>
  );
}
