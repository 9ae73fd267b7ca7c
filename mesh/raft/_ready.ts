/**
 * Making Readys and taking back what became of them. Several may be out at once: what is durable is
 * known by the number of a Ready, as an index would be ambiguous when entries were replaced in
 * between.
 */

import { ByteWindow } from "./_byte_window.ts";
import { commitByCounting } from "./_commit.ts";
import { ownVotePersisted } from "./_election.ts";
import { afterCommit } from "./_leadership.ts";
import { entryBytes } from "./_raft_log.ts";
import { flush } from "./_replication.ts";
import type { RaftState } from "./_state.ts";
import type { Entry, HardState, NodeId, Ready, SoftState } from "./types.ts";

const NOBODY: readonly NodeId[] = [];
const NO_ENTRIES: readonly Entry[] = [];

interface VoteWrite {
  readonly number: number;
  readonly term: number;
  readonly votedFor: NodeId | null;
}

export class ReadyMaker {
  readonly #s: RaftState;
  #number = 0;
  #persistedNumber = 0;
  /** As it was in the newest Ready. */
  #hardState: HardState;
  #soft: SoftState;
  /** Votes that are being written, oldest first. */
  readonly #voteWrites: VoteWrite[] = [];
  /** Committed entries handed out up to here. */
  #handedIndex: number;
  #appliedIndex: number;
  readonly #unapplied = new ByteWindow();
  /** Committed entries are being loaded by the owner. */
  #isLoading = false;

  constructor(s: RaftState, hardState: HardState, appliedIndex: number) {
    this.#s = s;
    this.#hardState = hardState;
    this.#handedIndex = appliedIndex;
    this.#appliedIndex = appliedIndex;
    this.#soft = softStateOf(s, NOBODY);
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  get soft(): SoftState {
    const s = this.#s;
    const old = this.#soft;
    const needsSeed = whoNeedsSeed(s, old.needsSeed);
    const isSame =
      old.role === s.role &&
      old.leader === s.leader &&
      old.term === s.term &&
      old.commit === s.log.commit &&
      old.lastIndex === s.log.lastIndex &&
      old.needsSeed === needsSeed;
    if (!isSame) this.#soft = softStateOf(s, needsSeed);
    return this.#soft;
  }

  /** `softShown`: the soft state of the newest Ready. */
  hasReady(softShown: SoftState): boolean {
    const s = this.#s;
    return (
      s.needsFlush ||
      s.messagesNow.length > 0 ||
      s.messages.length > 0 ||
      s.log.hasUnstored ||
      this.#isHardStateChanged() ||
      (this.#handedIndex < s.log.commit && !this.#isLoading && this.#applyRoom() > 0) ||
      this.soft !== softShown
    );
  }

  make(): Ready {
    const s = this.#s;
    if (s.needsFlush) flush(s);
    this.#number += 1;
    const entries = s.log.takeUnstored(this.#number);
    const isVoteChanged =
      s.term !== this.#hardState.term || s.votedFor !== this.#hardState.votedFor;
    const hardState = this.#isHardStateChanged()
      ? { term: s.term, votedFor: s.votedFor, commit: s.log.commit }
      : null;
    if (hardState) this.#hardState = hardState;
    if (isVoteChanged) {
      this.#voteWrites.push({ number: this.#number, term: s.term, votedFor: s.votedFor });
    }
    const { messages, messagesNow } = s;
    s.messages = [];
    s.messagesNow = [];
    return {
      number: this.#number,
      hardState,
      mustSync: isVoteChanged || entries.length > 0,
      entries,
      messages,
      messagesNow,
      committed: this.#takeCommitted(),
      soft: this.soft,
    };
  }

  advance(persistedThrough: number, appliedThrough: number): void {
    const s = this.#s;
    if (persistedThrough > this.#number || appliedThrough > this.#handedIndex) {
      const what = `Ready ${persistedThrough}, entry ${appliedThrough}`;
      const given = `Ready ${this.#number}, entry ${this.#handedIndex}`;
      throw new RangeError(`Cannot advance to "${what}": only given out to ${given}`);
    }
    if (appliedThrough > this.#appliedIndex) {
      this.#appliedIndex = appliedThrough;
      this.#unapplied.releaseTo(appliedThrough);
    }
    if (persistedThrough <= this.#persistedNumber) return;
    this.#persistedNumber = persistedThrough;
    const isLonger = s.log.writtenThrough(persistedThrough);
    let vote: VoteWrite | undefined;
    while (this.#voteWrites.length > 0 && this.#voteWrites[0]!.number <= persistedThrough) {
      vote = this.#voteWrites.shift();
    }
    if (vote !== undefined && vote.term === s.term && vote.votedFor === s.id) ownVotePersisted(s);
    if (isLonger && s.role === "leader" && commitByCounting(s)) afterCommit(s);
  }

  logLoaded(): void {
    this.#isLoading = false;
    this.#s.needsFlush = this.#s.role === "leader";
  }

  #isHardStateChanged(): boolean {
    const { term, votedFor, log } = this.#s;
    const old = this.#hardState;
    return term !== old.term || votedFor !== old.votedFor || log.commit !== old.commit;
  }

  #applyRoom(): number {
    return this.#s.limits.applyBytesMax - this.#unapplied.bytes;
  }

  #takeCommitted(): readonly Entry[] {
    const { log } = this.#s;
    const room = this.#applyRoom();
    if (this.#handedIndex >= log.commit || room <= 0) return NO_ENTRIES;
    const entries = log.slice(this.#handedIndex + 1, log.commit + 1, room);
    this.#isLoading = entries.length === 0;
    for (const entry of entries) this.#unapplied.add(entry.index, entryBytes(entry));
    this.#handedIndex = entries.at(-1)?.index ?? this.#handedIndex;
    return entries;
  }
}

function softStateOf(s: RaftState, needsSeed: readonly NodeId[]): SoftState {
  const { role, leader, term, log } = s;
  return { role, leader, term, commit: log.commit, lastIndex: log.lastIndex, needsSeed };
}

/** `before` itself when nothing changed, so that soft states compare by identity. */
function whoNeedsSeed(s: RaftState, before: readonly NodeId[]): readonly NodeId[] {
  let ids: NodeId[] | null = null;
  for (const progress of s.progress.values()) {
    if (progress.state !== "seed") continue;
    ids ??= [];
    ids.push(progress.id);
  }
  if (ids === null) return before.length === 0 ? before : NOBODY;
  return ids.length === before.length && ids.every((id, i) => id === before[i]) ? before : ids;
}
