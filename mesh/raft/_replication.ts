/**
 * What a leader sends to its followers: appends, as many as each one's window allows, and
 * heartbeats that carry the commit index. Appends leave at once, so the leader's own fsync and its
 * followers' overlap.
 */

import { messageOf } from "./_messages.ts";
import type { Progress } from "./_progress.ts";
import { entryBytes } from "./_raft_log.ts";
import type { RaftState } from "./_state.ts";
import type { Entry, Message } from "./types.ts";

/** Sends everything that may be sent now; called once for each Ready, so that it is batched. */
export function flush(s: RaftState): void {
  s.needsFlush = false;
  for (const progress of s.progress.values()) {
    while (sendAppend(s, progress));
    // The commit moved and no append carried it: tell it now rather than with the next tick.
    if (provenCommit(s, progress) > progress.commitSent) sendHeartbeat(s, progress);
  }
}

/** Every tick, to everybody: the owner coalesces those of all groups into one frame. */
export function sendHeartbeats(s: RaftState): void {
  for (const progress of s.progress.values()) sendHeartbeat(s, progress);
}

function provenCommit(s: RaftState, progress: Progress): number {
  return Math.min(progress.match, s.log.commit);
}

function sendHeartbeat(s: RaftState, progress: Progress): void {
  // The follower checks the term at that index before it believes the commit.
  let commit = provenCommit(s, progress);
  const logTerm = s.log.term(commit);
  if (logTerm === undefined) commit = 0;
  else progress.commitSent = commit;
  s.messagesNow.push(
    messageOf(s, {
      kind: "heartbeat",
      to: progress.id,
      index: commit,
      logTerm: logTerm ?? 0,
      commit,
    }),
  );
}

/** True if something was sent that may be followed by more. */
function sendAppend(s: RaftState, progress: Progress): boolean {
  const { log, limits } = s;
  const room = progress.room(limits);
  if (room <= 0) return false;
  if (progress.state === "replicate" && progress.next > log.lastIndex) return false;
  if (progress.state !== "seed" && log.term(progress.next - 1) === undefined) {
    progress.needsSeed(log.firstIndex - 1);
  }
  if (progress.state === "seed") {
    // Asks whether the seed has arrived: a seeded follower holds the last entry that was cut.
    progress.next = log.firstIndex;
    s.messagesNow.push(appendOf(s, progress, []));
    progress.sentProbe();
    return false;
  }
  const entries =
    progress.next > log.lastIndex ? [] : log.slice(progress.next, log.lastIndex + 1, room);
  // The owner is loading them, and will say when they are there.
  if (entries.length === 0 && progress.next <= log.lastIndex) return false;
  let bytes = 0;
  for (const entry of entries) bytes += entryBytes(entry);
  if (bytes > room && progress.hasInflight) return false;
  s.messagesNow.push(appendOf(s, progress, entries));
  if (progress.state === "probe") {
    progress.sentProbe();
    return false;
  }
  progress.sentEntries(entries.at(-1)!.index, bytes);
  return true;
}

function appendOf(s: RaftState, progress: Progress, entries: readonly Entry[]): Message {
  const index = progress.next - 1;
  const logTerm = s.log.term(index);
  if (logTerm === undefined) throw new RangeError(`Cannot send entry "${index + 1}": it was cut`);
  return messageOf(s, {
    kind: "append",
    to: progress.id,
    index,
    logTerm,
    commit: s.log.commit,
    entries,
  });
}
