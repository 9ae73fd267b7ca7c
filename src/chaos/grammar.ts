/**
 * The language of scenario files: one sentence a line. A sentence's form is literal words and typed
 * blanks, such as "pause <who> for <time>"; what a file says is matched against all forms, so a
 * form is also its own documentation. Knows no node and runs nothing.
 */

/** A duration, or a range of which the seed chooses. */
export interface TimeRange {
  readonly minMs: number;
  readonly maxMs: number;
}

/** Which nodes a sentence means; roles are looked up when the sentence is carried out. */
export type Who =
  | { readonly kind: "all" }
  | { readonly kind: "dead" }
  | { readonly kind: "random" }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "role"; readonly role: MemberRole; readonly vm: string };

export const memberRoles = ["primary", "backup", "witness", "outsider"] as const;
export type MemberRole = (typeof memberRoles)[number];

/** The types of blanks: what text fits, and what it becomes. */
const blanks = {
  who: { pattern: "[a-z][a-z0-9, -]*?", read: readWho },
  other: { pattern: "[a-z][a-z0-9, -]*?", read: readWho },
  vm: { pattern: "[a-z][a-z0-9-]{0,62}", read: (text: string): string => text },
  names: { pattern: "[a-z][a-z0-9 -]*", read: (text: string): string[] => text.split(/\s+/) },
  time: { pattern: "[0-9.]+ ?(?:ms|s|min)", read: readTime },
  count: { pattern: "[0-9]{1,6}", read: Number },
  percent: { pattern: "[0-9]{1,2} ?%", read: (text: string): number => Number.parseInt(text, 10) },
  rate: { pattern: "[0-9]{1,6} ?(?:kbit|mbit)", read: readRate },
  guest: { pattern: "[a-z]+", read: (text: string): string => text },
} as const;

type Blank = keyof typeof blanks;
export type Values = { readonly [B in Blank]: ReturnType<(typeof blanks)[B]["read"]> };

/** The blanks that a form names. */
type BlanksOf<Form extends string> = Form extends `${string}<${infer B}>${infer Rest}`
  ? (B & Blank) | BlanksOf<Rest>
  : never;
export type ValuesOf<Form extends string> = Pick<Values, BlanksOf<Form>>;

export interface Sentence<Meaning> {
  readonly form: string;
  /** What the text says in this form; null when it is another one. Throws RangeError on a blank. */
  read(text: string): Meaning | null;
}

/** A sentence of this form; `mean` makes its meaning from the values of its blanks. */
export function sentence<Form extends string, Meaning>(
  form: Form,
  mean: (values: ValuesOf<Form>) => Meaning,
): Sentence<Meaning> {
  const names: Blank[] = [];
  const source = form
    .split(/(<[a-z]+>)/)
    .map((part) => {
      if (!part.startsWith("<")) return part.replace(/ /g, "\\s+");
      const name = part.slice(1, -1) as Blank;
      names.push(name);
      return `(${blanks[name].pattern})`;
    })
    .join("");
  const pattern = new RegExp(`^${source}$`);
  return {
    form,
    read: (text) => {
      const match = pattern.exec(text);
      if (match === null) return null;
      const entries = names.map((name, index) => [name, readBlank(name, match[index + 1] ?? "")]);
      return mean(Object.fromEntries(entries) as ValuesOf<Form>);
    },
  };
}

function readBlank(name: Blank, text: string): unknown {
  return blanks[name].read(text.trim());
}

/** "alpha, primary of web": each part names nodes. */
function readWho(text: string): Who[] {
  return text.split(/\s*,\s*|\s+and\s+/).map(readOneWho);
}

function readOneWho(text: string): Who {
  if (text === "all") return { kind: "all" };
  if (text === "the dead") return { kind: "dead" };
  if (text === "a random node") return { kind: "random" };
  const [, role, vm] = /^(?:the )?([a-z]+) of ([a-z][a-z0-9-]*)$/.exec(text) ?? [];
  if (role !== undefined && vm !== undefined) {
    const known = memberRoles.find((candidate) => candidate === role);
    if (known !== undefined) return { kind: "role", role: known, vm };
    throw new RangeError(`"${role}" is no role; say ${memberRoles.join(", ")}`);
  }
  if (/^[a-z][a-z0-9-]*$/.test(text)) return { kind: "name", name: text };
  const ways = "all, the dead, a random node, a node's name, or the primary of a VM";
  throw new RangeError(`"${text}" names no node; say ${ways}`);
}

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000 };

/** "3 s" or "1..3 s". */
function readTime(text: string): TimeRange {
  const match = /^(\d+(?:\.\d+)?)(?:\.\.(\d+(?:\.\d+)?))? ?(ms|s|min)$/.exec(text);
  if (match === null) throw new RangeError(`"${text}" is no time; try 3 s or 1..3 s`);
  const unit = unitsMs[match[3] ?? ""] ?? 0;
  const minMs = Number(match[1]) * unit;
  const maxMs = match[2] === undefined ? minMs : Number(match[2]) * unit;
  if (maxMs < minMs) throw new RangeError(`"${text}" ends before it begins`);
  return { minMs, maxMs };
}

/** Bits a second. */
function readRate(text: string): number {
  return Number.parseInt(text, 10) * (text.endsWith("mbit") ? 1_000_000 : 1000);
}

/** The form that is likest to a text that fits none: by its first word, then by words shared. */
export function nearestForm(text: string, forms: readonly string[]): string {
  const words = text.split(/\s+/);
  const known = new Set(words);
  const score = (form: string): number => {
    const own = form.split(/\s+/);
    const shared = own.filter((word) => known.has(word)).length;
    return 100 * sharedStart(own[0] ?? "", words[0] ?? "") + shared - own.length / 100;
  };
  return [...forms].sort((a, b) => score(b) - score(a))[0] ?? "";
}

function sharedStart(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length += 1;
  return length;
}
