/**
 * How entries get into a leader's log and when they are committed: an entry of the leader's own
 * term that a majority of voters holds durably commits, and with it all before it (paper 5.3,
 * 5.4.2). The leader counts itself only for what its own disk has.
 */

import { entryBytes } from "./_raft_log.ts";
import type { RaftState } from "./_state.ts";
import { decodeMembers } from "./membership.ts";
import type { Entry, EntryKind } from "./types.ts";

/** Appends an entry of the leader's own term; a membership is in force at once. */
export function appendOwn(s: RaftState, kind: EntryKind, data: Uint8Array): number {
  const entry: Entry = { index: s.log.lastIndex + 1, term: s.term, kind, data };
  s.log.append(entry);
  s.uncommitted.add(entry.index, entryBytes(entry));
  if (kind === "config") useMembers(s, entry);
  s.needsFlush = true;
  return entry.index;
}

/** The entry is in the log: its membership is in force, committed or not. */
export function useMembers(s: RaftState, entry: Entry): void {
  const members = decodeMembers(entry.data, s.limits);
  if (members === null) throw new Error(`Cannot use entry "${entry.index}": no membership in it`);
  const wasWitness = s.isWitness;
  s.membership.append(entry.index, members);
  if (s.isWitness !== wasWitness) s.drawElectionTimeout();
  if (s.role === "leader") s.syncProgress();
}

/** As leader: commits what a majority holds. True if the commit index moved. */
export function commitByCounting(s: RaftState): boolean {
  const index = quorumIndex(s);
  if (index <= s.log.commit) return false;
  const term = s.log.term(index);
  if (term === undefined || !s.rules.mayCommit(term, s.term)) return false;
  return commitTo(s, index);
}

/** True if the commit index moved. */
export function commitTo(s: RaftState, index: number): boolean {
  const before = s.log.commit;
  if (!s.log.commitTo(index)) return false;
  s.uncommitted.releaseTo(index);
  if (s.membership.index > before) s.membership.committed(index);
  return true;
}

/** The newest index that a majority of voters holds durably. */
function quorumIndex(s: RaftState): number {
  const { voters } = s.membership;
  const matches: number[] = [];
  for (const id of voters) {
    matches.push(id === s.id ? s.log.persistedIndex : (s.progress.get(id)?.match ?? 0));
  }
  matches.sort((a, b) => b - a);
  return matches[s.rules.quorum(voters.length) - 1] ?? 0;
}
