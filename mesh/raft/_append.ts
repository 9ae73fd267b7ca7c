/**
 * A follower's side of replication (paper 5.3): take entries that fit the log, tell the leader
 * where the logs may agree when they do not, never give up a committed entry. An acknowledgement
 * leaves only when the entries are durable.
 */

import { commitTo, useMembers } from "./_commit.ts";
import { messageOf } from "./_messages.ts";
import type { RaftState } from "./_state.ts";
import type { Message } from "./types.ts";

/** Sent by the leader of this very term; false when it can't be, as another one is known. */
export function hearLeader(s: RaftState, message: Message): boolean {
  if (s.role === "leader" || (s.leader !== null && s.leader !== message.from)) {
    s.refuse("two_leaders");
    return false;
  }
  if (s.role !== "follower" || s.leader === null) s.becomeFollower(s.term, message.from);
  s.electionElapsed = 0;
  s.isLeaderUnreachable = false;
  s.isListening = false;
  return true;
}

export function stepHeartbeat(s: RaftState, message: Message): void {
  if (!hearLeader(s, message)) return;
  if (message.commit > s.log.commit) {
    const isProven =
      message.index === message.commit && s.log.term(message.commit) === message.logTerm;
    // The leader had this server's acknowledgement just now: one frame less for each commit.
    if (isProven && commitTo(s, message.commit)) return;
    s.refuse("beyond_log");
  }
  s.messagesNow.push(messageOf(s, { kind: "heartbeat_reply", to: message.from }));
}

export function stepAppend(s: RaftState, message: Message): void {
  if (!hearLeader(s, message)) return;
  const { log } = s;
  const last = message.index + message.entries.length;
  // Nothing new, perhaps from before the cut: all that is committed is equal to the leader's.
  if (last < log.commit) {
    acknowledge(s, message, log.commit);
    return;
  }
  const own = log.term(message.index);
  if (own !== message.logTerm && message.index >= log.firstIndex - 1) {
    if (message.index <= log.commit) s.refuse("contradicts_commit");
    else rejectAppend(s, message);
    return;
  }
  if (log.unpersistedBytes > s.limits.unpersistedBytesMax) {
    s.refuse("disk_behind");
    return;
  }
  const start = firstNew(s, message);
  if (start === null || !appendFrom(s, message, start)) {
    s.refuse("contradicts_commit");
    return;
  }
  commitTo(s, Math.min(message.commit, last));
  acknowledge(s, message, last);
}

/** Position of the first entry that is not in the log yet; null if a committed one would go. */
function firstNew(s: RaftState, message: Message): number | null {
  const { log } = s;
  const { entries } = message;
  // What was cut was committed, and so is equal.
  for (let i = Math.max(0, log.firstIndex - 1 - message.index); i < entries.length; i += 1) {
    const entry = entries[i]!;
    if (entry.index > log.lastIndex) return i;
    if (!s.rules.isConflict(log.term(entry.index), entry.term)) continue;
    return s.rules.mayTruncate(entry.index, log.commit) ? i : null;
  }
  return entries.length;
}

/** Appends the message's entries from position `start` on; false when they can't follow. */
function appendFrom(s: RaftState, message: Message, start: number): boolean {
  const { log, membership } = s;
  const first = message.entries[start];
  if (first === undefined) return true;
  const termBefore = log.term(first.index - 1);
  if (termBefore === undefined || first.term < termBefore) return false;
  if (first.index <= log.lastIndex) {
    log.truncate(first.index);
    membership.truncate(first.index);
  }
  for (let i = start; i < message.entries.length; i += 1) {
    const entry = message.entries[i]!;
    log.append(entry);
    if (entry.kind === "config") useMembers(s, entry);
  }
  return true;
}

function acknowledge(s: RaftState, message: Message, index: number): void {
  s.messages.push(messageOf(s, { kind: "append_reply", to: message.from, index }));
}

/** The fast way back: names an index where the logs may agree, not only that they do not here. */
function rejectAppend(s: RaftState, message: Message): void {
  const hint = s.log.conflictHint(message.index, message.logTerm, s.log.commit);
  s.messages.push(
    messageOf(s, {
      kind: "append_reply",
      to: message.from,
      index: hint.index,
      logTerm: hint.term,
      reject: true,
    }),
  );
}
