/** Tables, sizes and ages as people read them. Colour is never the only sign of anything. */
import Table from "cli-table3";
import prettyBytes from "pretty-bytes";

const plainBorders = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "  ",
} as const;

const plainStyle = { head: [], border: [], "padding-left": 0, "padding-right": 0 };

/** Columns without borders, so that other tools can cut them too. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const grid = new Table({ head: [...head], chars: plainBorders, style: plainStyle });
  grid.push(...rows.map((row) => [...row]));
  return `${trimLines(grid.toString())}\n`;
}

/** Names and values under each other. */
export function facts(rows: readonly (readonly [string, string])[]): string {
  const grid = new Table({ chars: plainBorders, style: plainStyle });
  grid.push(...rows.map(([name, value]) => [`${name}:`, value]));
  return `${trimLines(grid.toString())}\n`;
}

export function print(text: string): void {
  process.stdout.write(text);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function size(bytes: number): string {
  return prettyBytes(bytes, { binary: true, maximumFractionDigits: 1 });
}

export function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

function trimLines(text: string): string {
  return text.replace(/[ \t]+$/gm, "");
}
