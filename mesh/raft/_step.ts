/**
 * The way of a message into the core: is it sound, may its sender speak, and what does a newer or
 * an older term mean. Only then the file named after its subject sees it.
 */

import { stepAppend, stepHeartbeat } from "./_append.ts";
import {
  mayDepose,
  stepPreVote,
  stepPreVoteReply,
  stepTimeoutNow,
  stepVote,
  stepVoteReply,
} from "./_election.ts";
import { messageOf, whyUnsound } from "./_messages.ts";
import { stepAppendReply, stepHeartbeatReply } from "./_replies.ts";
import type { RaftState } from "./_state.ts";
import type { Message, MessageKind } from "./types.ts";

const HANDLERS: Record<MessageKind, (s: RaftState, message: Message) => void> = {
  append: stepAppend,
  append_reply: stepAppendReply,
  heartbeat: stepHeartbeat,
  heartbeat_reply: stepHeartbeatReply,
  prevote: stepPreVote,
  prevote_reply: stepPreVoteReply,
  vote: stepVote,
  vote_reply: stepVoteReply,
  timeout_now: stepTimeoutNow,
};

export function step(s: RaftState, message: Message): void {
  const unsound = whyUnsound(s, message);
  if (unsound !== null) {
    s.refuse(unsound);
  } else if (s.membership.roleOf(message.from) === undefined && !mayHearStranger(s, message)) {
    s.refuse("stranger");
  } else if (message.term < s.term) {
    stepStale(s, message);
  } else if (message.term === s.term || stepNewTerm(s, message)) {
    HANDLERS[message.kind](s, message);
  }
}

/**
 * A node outside of the membership that this server knows: while it hears a leader it has no need
 * to listen. Otherwise its own membership may be the old one, so it takes a leader's word, and
 * answers a candidate (which it helps only if that one's log is newer).
 */
function mayHearStranger(s: RaftState, message: Message): boolean {
  const { kind } = message;
  const isRequest =
    kind === "append" || kind === "heartbeat" || kind === "vote" || kind === "prevote";
  // A leader that has removed itself is a stranger already when it hands over.
  if (message.from === s.leader) return isRequest || kind === "timeout_now";
  return isRequest && !s.hearsLeader;
}

/** An older term: whoever claims to lead or asks for votes learns the newer one from the answer. */
function stepStale(s: RaftState, message: Message): void {
  const to = message.from;
  if (message.kind === "append" || message.kind === "heartbeat") {
    s.messages.push(messageOf(s, { kind: "append_reply", to, reject: true }));
  } else if (message.kind === "vote") {
    s.messages.push(messageOf(s, { kind: "vote_reply", to, reject: true }));
  } else if (message.kind === "prevote") {
    s.messagesNow.push(messageOf(s, { kind: "prevote_reply", to, reject: true }));
  }
  s.refuse("stale");
}

/** A newer term than this server's. False when the message is not to be looked at further. */
function stepNewTerm(s: RaftState, message: Message): boolean {
  const { kind, term } = message;
  // A pre-vote asks about a term that nobody has yet, and so does the answer that grants it.
  if (kind === "prevote" || (kind === "prevote_reply" && !message.reject)) return true;
  if (kind === "vote" && !mayDepose(s, message)) {
    s.refuse("has_leader");
    return false;
  }
  if (kind === "timeout_now") {
    s.refuse("unexpected");
    return false;
  }
  s.becomeFollower(term, null);
  // The rest of an answer was meant for an office that is over.
  return kind === "append" || kind === "heartbeat" || kind === "vote";
}
