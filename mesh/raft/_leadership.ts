/**
 * What a leader does beyond replicating: it begins its term with a no-op, checks that a quorum
 * still answers (CheckQuorum), and hands its office over (thesis 3.10), a witness as soon as it
 * can.
 */

import { appendOwn } from "./_commit.ts";
import { messageOf } from "./_messages.ts";
import type { Progress } from "./_progress.ts";
import { flush, sendHeartbeats } from "./_replication.ts";
import type { RaftState } from "./_state.ts";
import type { NodeId } from "./types.ts";

const NO_DATA = new Uint8Array(0);

export function becomeLeader(s: RaftState): void {
  s.becomeLeader();
  appendOwn(s, "noop", NO_DATA);
}

export function tickLeader(s: RaftState): void {
  s.electionElapsed += 1;
  if (s.electionElapsed >= s.limits.electionTicksMin) {
    s.electionElapsed = 0;
    if (!checkQuorum(s)) {
      s.becomeFollower(s.term, null);
      return;
    }
  }
  if (s.transferee !== null) {
    s.transferElapsed += 1;
    if (s.transferElapsed >= s.limits.transferTicks) {
      s.failedTransferee = s.transferee;
      s.transferee = null;
    }
  }
  if (s.isWitness) handOver(s);
  for (const progress of s.progress.values()) {
    if (progress.tick(s.limits)) s.needsFlush = true;
  }
  sendHeartbeats(s);
}

/** Did a quorum of voters answer since the last check? */
function checkQuorum(s: RaftState): boolean {
  let active = 0;
  for (const id of s.membership.voters) {
    if (id === s.id || s.progress.get(id)?.recentActive) active += 1;
  }
  for (const progress of s.progress.values()) progress.recentActive = false;
  return active >= s.rules.quorum(s.membership.voters.length);
}

/** Begins a transfer; false when `to` can't lead or this server is not the leader. */
export function transferLeadership(s: RaftState, to: NodeId): boolean {
  const progress = s.progress.get(to);
  if (s.role !== "leader" || progress?.role !== "replica" || progress.isUnreachable) return false;
  if (s.transferee !== to) {
    s.transferee = to;
    s.transferElapsed = 0;
  }
  finishTransfer(s, progress);
  return true;
}

/** Acknowledged: a transferee that caught up may campaign, and a witness has found its heir. */
export function afterAcknowledgement(s: RaftState, progress: Progress): void {
  const isHeir = s.isWitness && s.transferee === null && progress.match === s.log.lastIndex;
  if (isHeir) transferLeadership(s, progress.id);
  else finishTransfer(s, progress);
}

function finishTransfer(s: RaftState, progress: Progress): void {
  if (s.transferee !== progress.id) return;
  if (progress.match !== s.log.lastIndex) {
    s.needsFlush = true;
    return;
  }
  s.messagesNow.push(messageOf(s, { kind: "timeout_now", to: progress.id }));
}

/** A witness leads only to bring a replica up to date; then that one takes over. */
function handOver(s: RaftState): void {
  if (s.transferee !== null) return;
  const best = bestReplica(s);
  if (best) transferLeadership(s, best.id);
}

/** The reachable replica with the newest log; one that failed to take over only if alone. */
function bestReplica(s: RaftState): Progress | null {
  let best: Progress | null = null;
  for (const progress of s.progress.values()) {
    if (progress.role !== "replica" || !progress.recentActive || progress.isUnreachable) continue;
    if (best === null || best.id === s.failedTransferee) best = progress;
    else if (progress.id !== s.failedTransferee && progress.match > best.match) best = progress;
  }
  return best;
}

/** The commit index moved. A leader that is no longer a voter goes once that is committed. */
export function afterCommit(s: RaftState): void {
  s.needsFlush = true;
  if (s.isVoter || s.membership.index > s.log.commit) return;
  flush(s);
  const heir = bestReplica(s);
  if (heir) s.messagesNow.push(messageOf(s, { kind: "timeout_now", to: heir.id }));
  s.becomeFollower(s.term, null);
}
