/**
 * The history of one run: a hash that two runs of the same seed must share and, when asked for, one
 * line of text for each event.
 */

import type { Message } from "../../mesh/raft/mod.ts";

export class Trace {
  readonly #print: ((line: string) => void) | null;
  #low = 0x811c9dc5 | 0;
  #high = 0x1b873593 | 0;

  constructor(print: ((line: string) => void) | null) {
    this.#print = print;
  }

  get hash(): string {
    const low = (this.#low >>> 0).toString(16).padStart(8, "0");
    return (this.#high >>> 0).toString(16).padStart(8, "0") + low;
  }

  number(value: number): void {
    this.#low = Math.imul(this.#low ^ value, 0x01000193);
    this.#high = (Math.imul(this.#high, 33) + (this.#low >>> 3)) | 0;
  }

  event(nowMs: number, node: string, text: string): void {
    this.number(nowMs);
    for (let i = 0; i < text.length; i += 1) this.number(text.charCodeAt(i));
    this.#print?.(`${String(nowMs).padStart(6)} ${node} ${text}`);
  }

  message(nowMs: number, what: "send" | "lose" | "take", message: Message): void {
    this.number(nowMs);
    this.number(what.charCodeAt(0) + message.kind.length * 256 + (message.reject ? 4096 : 0));
    this.number(message.from.charCodeAt(0) * 256 + message.to.charCodeAt(0));
    this.number(message.term);
    this.number(message.index);
    this.number(message.commit);
    if (this.#print) {
      const { from, to } = message;
      this.#print(`${String(nowMs).padStart(6)} ${from}>${to} ${what} ${describe(message)}`);
    }
  }
}

export function describe(message: Message): string {
  const { kind, term, index, logTerm, commit, entries, reject, transfer } = message;
  const parts = [`${kind} t${term}`];
  if (kind === "append_reply" && !reject) parts.push(`has ${index}`);
  else if (index > 0) parts.push(`${index}/t${logTerm}`);
  if (entries.length > 0) parts.push(`+${entries.length} to ${entries.at(-1)!.index}`);
  if (commit > 0) parts.push(`commit ${commit}`);
  if (reject) parts.push("rejected");
  if (transfer) parts.push("transfer");
  return parts.join(" ");
}
