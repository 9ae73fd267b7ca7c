/**
 * Making messages, and looking at those that came: a message is well formed and within all limits
 * before any other file of the core sees it. What a peer sent is never trusted beyond that either;
 * the rules that need the state are where the message is acted upon.
 */

import type { RaftState } from "./_state.ts";
import { ENTRY_OVERHEAD_BYTES, type RaftLimits } from "./limits.ts";
import { decodeMembers } from "./membership.ts";
import type { Refusal } from "./refusals.ts";
import { type Entry, MESSAGE_KINDS, type Message, type MessageKind, type NodeId } from "./types.ts";

const NO_ENTRIES: readonly Entry[] = [];

const KINDS: ReadonlySet<string> = new Set(MESSAGE_KINDS);

export interface MessageFields {
  readonly kind: MessageKind;
  readonly to: NodeId;
  readonly term?: number;
  readonly index?: number;
  readonly logTerm?: number;
  readonly commit?: number;
  readonly entries?: readonly Entry[];
  readonly reject?: boolean;
  readonly transfer?: boolean;
}

/** All fields in one order, so that every message has the same shape for the engine. */
export function messageOf(s: RaftState, fields: MessageFields): Message {
  return {
    kind: fields.kind,
    from: s.id,
    to: fields.to,
    term: fields.term ?? s.term,
    index: fields.index ?? 0,
    logTerm: fields.logTerm ?? 0,
    commit: fields.commit ?? 0,
    entries: fields.entries ?? NO_ENTRIES,
    reject: fields.reject ?? false,
    transfer: fields.transfer ?? false,
  };
}

/** Why the message can't be acted upon whatever the state is; null when it is sound. */
export function whyUnsound(s: RaftState, message: Message): Refusal | null {
  const { limits } = s;
  const { from, term, index, logTerm, commit, entries } = message;
  if (!KINDS.has(message.kind) || message.to !== s.id || from === s.id) return "malformed";
  if (typeof from !== "string" || from.length === 0) return "malformed";
  if (from.length > limits.nodeIdLengthMax) return "malformed";
  if (typeof message.reject !== "boolean" || typeof message.transfer !== "boolean") {
    return "malformed";
  }
  if (!isCount(term) || !isCount(index) || !isCount(logTerm) || !isCount(commit)) {
    return "malformed";
  }
  if (!Array.isArray(entries)) return "malformed";
  if (term === 0 || term > limits.termMax || logTerm > term) return "absurd";
  if (term - s.term > limits.termJumpMax) return "absurd";
  if (index > limits.indexMax || commit > limits.indexMax) return "absurd";
  if (message.kind !== "append") return entries.length === 0 ? null : "malformed";
  // Entries begin with term 1 and only index 0 comes before them all.
  if ((index === 0) !== (logTerm === 0)) return "absurd";
  return entries.length === 0 ? null : whyUnsoundEntries(message, limits);
}

function whyUnsoundEntries(message: Message, limits: RaftLimits): Refusal | null {
  const { entries } = message;
  if (entries.length > limits.appendEntriesMax) return "absurd";
  let index = message.index;
  let term = message.logTerm;
  let bytes = 0;
  for (const entry of entries) {
    if (typeof entry !== "object" || entry === null) return "malformed";
    if (!isCount(entry.index) || !isCount(entry.term)) return "malformed";
    if (!(entry.data instanceof Uint8Array)) return "malformed";
    index += 1;
    if (entry.index !== index || entry.term < term || entry.term === 0) return "not_contiguous";
    if (entry.term > message.term || entry.data.length > limits.entryBytesMax) return "absurd";
    term = entry.term;
    bytes += entry.data.length + ENTRY_OVERHEAD_BYTES;
    if (entry.kind === "data") continue;
    if (entry.kind === "noop") {
      if (entry.data.length > 0) return "malformed";
    } else if (entry.kind === "config") {
      if (decodeMembers(entry.data, limits) === null) return "bad_members";
    } else return "malformed";
  }
  // A sender packs entries up to `appendBytesMax`, but at least one.
  const bytesMax = limits.appendBytesMax + limits.entryBytesMax + ENTRY_OVERHEAD_BYTES;
  return bytes > bytesMax ? "absurd" : null;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
