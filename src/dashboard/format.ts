/** Numbers and states as people read them. */
const units = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

export function size(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

export function millis(ms: number | null): string {
  if (ms === null) return "–";
  if (ms >= 10_000) return `${(ms / 1000).toFixed(0)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms >= 10 ? ms.toFixed(0) : ms.toFixed(1)} ms`;
}

export function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

export function clock(ms: number): string {
  return new Date(ms).toLocaleTimeString(undefined, { hour12: false });
}

export function words(state: string): string {
  return state.replaceAll("_", " ");
}

export function count(number: number, one: string): string {
  return `${number} ${number === 1 ? one : `${one}s`}`;
}

/** What colour stands for a state; the state's name is always there, too. */
export type Tone = "good" | "busy" | "bad" | "calm";

const tones: Readonly<Record<string, Tone>> = {
  running: "good",
  live: "good",
  following: "good",
  witness: "calm",
  starting: "busy",
  going_live: "busy",
  switching: "busy",
  ended: "calm",
  failed: "bad",
  unreachable: "bad",
};

export function toneOf(state: string): Tone {
  return tones[state] ?? "calm";
}

/** A VM keeps its hue: one of a few that can be told apart, by its id. */
export function hueOf(id: string): number {
  const hues = [174, 262, 28, 208, 330, 96, 48, 232];
  const index = Number.parseInt(id.slice(0, 6), 16) % hues.length;
  return hues[Number.isNaN(index) ? 0 : index] ?? 174;
}
