/** What a leader learns from its followers' answers. It never believes more than it has sent. */

import { commitByCounting } from "./_commit.ts";
import { afterAcknowledgement, afterCommit } from "./_leadership.ts";
import type { Progress } from "./_progress.ts";
import type { RaftState } from "./_state.ts";
import type { Message } from "./types.ts";

export function stepAppendReply(s: RaftState, message: Message): void {
  const progress = hearFollower(s, message);
  if (!progress) return;
  if (message.index > s.log.lastIndex) {
    s.refuse("beyond_log");
    return;
  }
  if (message.reject) {
    stepRejection(s, message, progress);
    return;
  }
  const isNews = progress.acknowledged(message.index);
  s.needsFlush = true;
  if (isNews && commitByCounting(s)) afterCommit(s);
  if (s.role === "leader") afterAcknowledgement(s, progress);
}

export function stepHeartbeatReply(s: RaftState, message: Message): void {
  hearFollower(s, message);
}

function hearFollower(s: RaftState, message: Message): Progress | null {
  const progress = s.role === "leader" ? s.progress.get(message.from) : undefined;
  if (!progress) {
    s.refuse("unexpected");
    return null;
  }
  progress.recentActive = true;
  if (progress.isUnreachable) {
    progress.isUnreachable = false;
    s.needsFlush = true;
  }
  return progress;
}

function stepRejection(s: RaftState, message: Message, progress: Progress): void {
  const { log } = s;
  if (message.index < progress.match) {
    // Old news, unless it answers a probe: then the follower lost what it had acknowledged.
    if (progress.state !== "probe") {
      s.refuse("stale");
      return;
    }
    progress.forget(message.index + 1);
  }
  const hint = log.conflictHint(message.index, message.logTerm, progress.match);
  if (progress.state === "seed" && hint.index < log.firstIndex - 1) return;
  progress.probeFrom(hint.index + 1);
  s.needsFlush = true;
}
