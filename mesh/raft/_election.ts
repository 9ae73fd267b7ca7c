/**
 * Elections: PreVote (thesis 9.6), votes (paper 5.2, 5.4.1), the election timer, and the rule that
 * a server which hears its leader helps nobody to depose it. A vote, asked or given, leaves only
 * when the term and the vote are durable; a pre-vote promises nothing and leaves at once.
 */

import { becomeLeader } from "./_leadership.ts";
import { messageOf } from "./_messages.ts";
import type { RaftState } from "./_state.ts";
import type { Message } from "./types.ts";

export function tickElection(s: RaftState): void {
  s.electionElapsed += 1;
  if (s.electionElapsed < s.electionTimeout) return;
  s.isListening = false;
  // Who may not campaign has lost its leader all the same, and may be asked for its vote.
  if (s.mayCampaign) startPreVote(s);
  else s.leader = null;
}

/** The owner saw the leader's connection close: asks the others, who may have seen it as well. */
export function campaignNow(s: RaftState): void {
  // A witness leaves it to a replica, and steps in when it has to deny one (see `answerPreVote`).
  // A candidate whose votes were split may try again before its time-out.
  if (s.role === "leader" || !s.mayCampaign) return;
  if (s.isWitness || s.isListening) return;
  startPreVote(s);
}

export function startPreVote(s: RaftState): void {
  if (s.term >= s.limits.termMax) {
    s.refuse("absurd");
    return;
  }
  s.becomePrecandidate();
  s.votes.set(s.id, true);
  if (hasQuorum(s, true)) {
    startElection(s, false);
    return;
  }
  askForVotes(s, "prevote");
}

export function startElection(s: RaftState, isTransfer: boolean): void {
  if (s.term >= s.limits.termMax) {
    s.refuse("absurd");
    return;
  }
  s.becomeCandidate(isTransfer);
  askForVotes(s, "vote");
  // Its own vote counts when it is durable: see `ownVotePersisted`.
}

export function ownVotePersisted(s: RaftState): void {
  if (s.role !== "candidate" || s.votes.has(s.id)) return;
  s.votes.set(s.id, true);
  if (hasQuorum(s, true)) becomeLeader(s);
}

/** The leader hands over: no pre-vote, and the others' leader does not hold them back. */
export function stepTimeoutNow(s: RaftState, message: Message): void {
  const isReplica = s.isVoter && !s.isWitness;
  if (s.role !== "follower" || !isReplica || !s.hasFloor || message.from !== s.leader) {
    s.refuse("unexpected");
    return;
  }
  startElection(s, true);
}

/** True if the message may be looked at: it does not ask to depose a leader that is heard. */
export function mayDepose(s: RaftState, message: Message): boolean {
  return !s.hearsLeader || (message.transfer && message.kind === "vote");
}

export function stepPreVote(s: RaftState, message: Message): void {
  if (!mayDepose(s, message)) {
    s.refuse("has_leader");
    return;
  }
  const isNewTerm = message.term > s.term;
  const isFree = isNewTerm || (message.term === s.term && mayVoteFor(s, message));
  const isGranted = isFree && isLogUpToDate(s, message);
  // A refusal carries this server's own term, so that one left behind catches up.
  const term = isGranted ? message.term : s.term;
  s.messagesNow.push(
    messageOf(s, { kind: "prevote_reply", to: message.from, term, reject: !isGranted }),
  );
  if (isFree && !isGranted) campaignSoon(s);
}

export function stepPreVoteReply(s: RaftState, message: Message): void {
  const isCurrent = message.reject ? message.term === s.term : message.term === s.term + 1;
  if (s.role !== "precandidate" || !isCurrent) {
    s.refuse("stale");
    return;
  }
  s.votes.set(message.from, !message.reject);
  if (hasQuorum(s, true)) startElection(s, false);
  else if (hasQuorum(s, false)) s.becomeFollower(s.term, null);
}

export function stepVote(s: RaftState, message: Message): void {
  const isGranted = mayVoteFor(s, message) && isLogUpToDate(s, message);
  if (isGranted) {
    s.votedFor = message.from;
    s.resetElectionTimer();
  }
  s.messages.push(messageOf(s, { kind: "vote_reply", to: message.from, reject: !isGranted }));
}

export function stepVoteReply(s: RaftState, message: Message): void {
  if (s.role !== "candidate") {
    s.refuse("stale");
    return;
  }
  s.votes.set(message.from, !message.reject);
  if (hasQuorum(s, true)) becomeLeader(s);
  else if (hasQuorum(s, false)) s.becomeFollower(s.term, null);
}

function mayVoteFor(s: RaftState, message: Message): boolean {
  if (s.leader !== null && s.leader !== message.from) return false;
  return s.rules.mayVote(s.votedFor, message.from);
}

/**
 * The election restriction. Where this server's membership does not make it a voter, or the
 * candidate a member, its membership may be the old one: then only a strictly newer log counts,
 * as that log may hold the newer membership.
 */
function isLogUpToDate(s: RaftState, message: Message): boolean {
  const own = { index: s.log.lastIndex, term: s.log.lastTerm };
  const candidate = { index: message.index, term: message.logTerm };
  if (!s.rules.isUpToDate(candidate, own)) return false;
  // What this server acknowledged before it gave a log up counts as if it had it.
  if (s.floor !== null && !s.rules.isUpToDate(candidate, s.floor)) return false;
  if (s.isVoter && s.membership.isVoter(message.from)) return true;
  return candidate.index !== own.index || candidate.term !== own.term;
}

/**
 * Somebody without the newest entries wants to lead and nobody else does: this server has them, so
 * it need not wait for its own time-out. A witness that has to hand over steps in this way.
 */
function campaignSoon(s: RaftState): void {
  if (s.role !== "follower" || s.isListening || !s.mayCampaign || s.hearsLeader) return;
  const ticks = s.isWitness ? 1 : 1 + Math.floor(s.prng.next() * 3);
  s.electionElapsed = Math.max(s.electionElapsed, s.electionTimeout - ticks);
}

function hasQuorum(s: RaftState, answer: boolean): boolean {
  let count = 0;
  for (const id of s.membership.voters) if (s.votes.get(id) === answer) count += 1;
  return count >= s.rules.quorum(s.membership.voters.length);
}

function askForVotes(s: RaftState, kind: "prevote" | "vote"): void {
  const isVote = kind === "vote";
  const outbox = isVote ? s.messages : s.messagesNow;
  const term = isVote ? s.term : s.term + 1;
  for (const to of s.membership.voters) {
    if (to === s.id) continue;
    outbox.push(
      messageOf(s, {
        kind,
        to,
        term,
        index: s.log.lastIndex,
        logTerm: s.log.lastTerm,
        transfer: s.isTransfer,
      }),
    );
  }
}
