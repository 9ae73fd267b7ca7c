/** One measured figure beside its bound, and the table of all of them. */
import Table from "cli-table3";

export interface Figure {
  readonly name: string;
  readonly unit: "ratio" | "ms" | "bytes" | "bytes/s" | "MiB" | "% of a core" | "lines";
  readonly value: number;
  /** At most this much; null: reported only. */
  readonly bound: number | null;
  /** What it was made from, in the order measured. */
  readonly samples: readonly number[];
  readonly note?: string;
}

/** Columns alone, without rules between the rows. */
const plainCharacters = Object.fromEntries(
  ["top", "bottom", "left", "right", "mid"].flatMap((edge) =>
    ["", "-mid", "-left", "-right"].map((corner) => [`${edge}${corner}`, ""]),
  ),
);

export function withinBound(figure: Figure): boolean {
  return figure.bound === null || figure.value <= figure.bound;
}

export function figureTable(figures: readonly Figure[]): string {
  const table = new Table({
    head: ["figure", "value", "bound", "", "spread"],
    chars: { ...plainCharacters, middle: "" },
    style: { head: [], border: [], "padding-left": 0, "padding-right": 2 },
  });
  for (const figure of figures) {
    table.push([
      figure.note === undefined ? figure.name : `${figure.name} (${figure.note})`,
      `${rounded(figure.value)} ${figure.unit}`,
      figure.bound === null ? "" : `<= ${rounded(figure.bound)}`,
      figure.bound === null ? "" : withinBound(figure) ? "ok" : "MISSED",
      figure.samples.length < 2
        ? ""
        : `${rounded(Math.min(...figure.samples))}..${rounded(Math.max(...figure.samples))}`,
    ]);
  }
  return table.toString();
}

function rounded(value: number): string {
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3);
}
