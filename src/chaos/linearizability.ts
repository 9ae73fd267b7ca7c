/**
 * Is a history of operations on a key-value store linearizable? The search of Wing and Gong with
 * Lowe's memory of configurations that were tried ("Testing for linearizability", 2017), one key
 * at a time, since a store is linearizable if each of its keys is (Herlihy and Wing, 1990).
 */

export type Request =
  | { readonly kind: "put"; readonly value: string }
  | { readonly kind: "get" }
  | { readonly kind: "swap"; readonly from: string; readonly to: string };

export interface Operation {
  readonly id: string;
  readonly key: string;
  readonly request: Request;
  readonly calledMs: number;
  /** When the answer came; Infinity without one: it may have happened at any time since, or not. */
  readonly answeredMs: number;
  /** Null without an answer. */
  readonly output: string | null;
}

/** What a key holds before anything was put there. */
export const nothing = "none";

/** More configurations of one key than this are not searched. */
const configurationsMax = 2_000_000;

/** Null if linearizable; else which key's history cannot be explained, and where it got stuck. */
export function firstUnexplained(history: readonly Operation[]): string | null {
  const keys = new Map<string, Operation[]>();
  for (const operation of history) {
    const own = keys.get(operation.key) ?? [];
    own.push(operation);
    keys.set(operation.key, own);
  }
  for (const [key, operations] of keys) {
    const stuck = search(operations);
    if (stuck !== null) return `key ${key}: ${stuck}`;
  }
  return null;
}

/** An operation's call or answer, in a list from which a chosen operation is lifted out. */
interface Entry {
  readonly operation: number;
  readonly isCall: boolean;
  before: Entry | null;
  after: Entry | null;
  match: Entry | null;
}

/** What a value becomes by a request, and what the answer must be. */
function apply(value: string, request: Request): { readonly value: string; readonly out: string } {
  if (request.kind === "put") return { value: request.value, out: request.value };
  if (request.kind === "get") return { value, out: value };
  if (value === request.from) return { value: request.to, out: "yes" };
  return { value, out: "no" };
}

function search(operations: readonly Operation[]): string | null {
  const head = entriesOf(operations);
  const chosen: { readonly entry: Entry; readonly value: string }[] = [];
  const tried = new Set<string>();
  let done = 0n;
  let value = nothing;
  let entry = head.after;
  let furthest: Operation | null = null;
  while (head.after !== null) {
    if (entry === null || !entry.isCall) {
      // Only operations without an answer are left over: none of them had to happen.
      if (entry === null && onlyUnanswered(head, operations)) return null;
      if (entry !== null) furthest = later(furthest, operations[entry.operation] ?? null);
      const last = chosen.pop();
      if (last === undefined) return describe(furthest);
      value = last.value;
      done &= ~(1n << BigInt(last.entry.operation));
      putBack(last.entry);
      entry = last.entry.after;
      continue;
    }
    const operation = operations[entry.operation] as Operation;
    const next = apply(value, operation.request);
    const fits = operation.output === null || operation.output === next.out;
    const after = done | (1n << BigInt(entry.operation));
    const configuration = `${after.toString(36)} ${next.value}`;
    if (fits && !tried.has(configuration)) {
      tried.add(configuration);
      if (tried.size > configurationsMax) return "too many histories to search; take fewer clients";
      chosen.push({ entry, value });
      value = next.value;
      done = after;
      liftOut(entry);
      entry = head.after;
    } else {
      entry = entry.after;
    }
  }
  return null;
}

/** The calls and answers in the order of time behind an empty head. */
function entriesOf(operations: readonly Operation[]): Entry {
  const moments: { readonly atMs: number; readonly entry: Entry }[] = [];
  for (const [index, operation] of operations.entries()) {
    const make = (isCall: boolean): Entry => ({
      operation: index,
      isCall,
      before: null,
      after: null,
      match: null,
    });
    const call = make(true);
    moments.push({ atMs: operation.calledMs, entry: call });
    if (operation.output === null) continue;
    call.match = make(false);
    moments.push({ atMs: operation.answeredMs, entry: call.match });
  }
  moments.sort((a, b) => a.atMs - b.atMs || Number(b.entry.isCall) - Number(a.entry.isCall));
  const head: Entry = { operation: -1, isCall: false, before: null, after: null, match: null };
  let last = head;
  for (const { entry } of moments) {
    last.after = entry;
    entry.before = last;
    last = entry;
  }
  return head;
}

function liftOut(entry: Entry): void {
  for (const one of [entry, entry.match]) {
    if (one === null) continue;
    if (one.before !== null) one.before.after = one.after;
    if (one.after !== null) one.after.before = one.before;
  }
}

function putBack(entry: Entry): void {
  for (const one of [entry.match, entry]) {
    if (one === null) continue;
    if (one.before !== null) one.before.after = one;
    if (one.after !== null) one.after.before = one;
  }
}

function onlyUnanswered(head: Entry, operations: readonly Operation[]): boolean {
  for (let entry = head.after; entry !== null; entry = entry.after) {
    if (operations[entry.operation]?.output !== null) return false;
  }
  return true;
}

function later(a: Operation | null, b: Operation | null): Operation | null {
  if (a === null || b === null) return a ?? b;
  return b.answeredMs > a.answeredMs ? b : a;
}

function describe(stuck: Operation | null): string {
  if (stuck === null) return "no order explains the answers";
  const { id, request, output } = stuck;
  return `no order explains that ${id} (${JSON.stringify(request)}) answered "${output}"`;
}
