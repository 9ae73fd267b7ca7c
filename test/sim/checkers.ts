/**
 * What must hold in every run, whatever the scenario does. The checkers see each node's Readys,
 * disks and applied entries from outside; they share no code with the core.
 */

import type { Entry, Member, Message, NodeId, Ready } from "../../mesh/raft/mod.ts";
import type { VmCopy } from "./vm_model.ts";

export type Property =
  | "election safety"
  | "only voters vote"
  | "one vote a term"
  | "leader append-only"
  | "log matching"
  | "commit needs a durable majority"
  | "leader completeness"
  | "state-machine safety"
  | "outputs once and in order"
  | "liveness"
  | "the core's own checks";

export class Violation extends Error {
  readonly property: Property;

  constructor(property: Property, what: string, options: ErrorOptions = {}) {
    super(`${property}: ${what}`, options);
    this.name = "Violation";
    this.property = property;
  }
}

/** A node as the checkers see it. */
export interface CheckedNode {
  readonly id: NodeId;
  readonly members: readonly Member[];
  /** Is that entry durable on the node's disk? */
  holds(index: number, term: number): boolean;
  /** Term at `index` of the log as the core has it; undefined when cut or absent. */
  termAt(index: number): number | undefined;
  /** Is that entry in its log, or cut behind its checkpoint? */
  hasEntry(index: number, term: number): boolean;
}

interface LoggedEntry {
  readonly data: Uint8Array;
  readonly termBefore: number;
}

export class Checkers {
  readonly #nodes: ReadonlyMap<NodeId, CheckedNode>;
  readonly #leaders = new Map<number, NodeId>();
  /** For each term, whom each voter gave its vote. */
  readonly #votes = new Map<number, Map<NodeId, NodeId>>();
  /** [index]: each version that was ever in a log, by term. */
  readonly #versions: Map<number, LoggedEntry>[] = [];
  /** [index]: term of the entry that was committed there. */
  readonly #committed: number[] = [0];
  /** [index]: term of the leader that committed it; never falls. */
  readonly #committedBy: number[] = [0];
  /** [index]: history of a VM that applied the entries so far. */
  readonly #histories: number[] = [0];

  constructor(nodes: ReadonlyMap<NodeId, CheckedNode>) {
    this.#nodes = nodes;
  }

  get commit(): number {
    return this.#committed.length - 1;
  }

  /** Before anything of the Ready is sent, stored or applied. `termBefore`: of the entry before. */
  ready(node: CheckedNode, ready: Ready, before: ReadyContext): void {
    this.#checkEntries(node, ready, before);
    const { role, term, commit } = ready.soft;
    if (role === "leader") {
      if (before.role !== "leader" || before.term !== term) this.#checkElection(node, ready);
      this.#checkLeaderCommit(node, commit, term);
    } else if (commit > this.commit) {
      // A leader that stepped down by its own commit is a leader here still.
      if (before.role !== "leader") {
        throw new Violation("state-machine safety", `${node.id} commits ${commit} on its own`);
      }
      this.#checkLeaderCommit(node, commit, before.term);
    }
  }

  /** The message leaves its node: what it promises counts from now on. */
  sent(message: Message): void {
    const { kind, from, to, term } = message;
    if (kind === "vote_reply" && !message.reject) this.#noteVote(term, from, to);
    if (kind === "vote") this.#noteVote(term, from, from);
  }

  applied(node: CheckedNode, entry: Entry, vm: VmCopy | null): void {
    const { index, term } = entry;
    if (this.#committed[index] !== term) {
      const other = `term ${this.#committed[index]} is committed there`;
      throw new Violation(
        "state-machine safety",
        `${node.id} applies ${index} of ${term}; ${other}`,
      );
    }
    if (!vm) return;
    const why = vm.apply(entry);
    if (why !== null) throw new Violation("state-machine safety", `${node.id}: ${why}`);
    this.#histories[index] ??= vm.history;
    if (this.#histories[index] !== vm.history) {
      throw new Violation("state-machine safety", `${node.id} has another history at ${index}`);
    }
  }

  #noteVote(term: number, voter: NodeId, candidate: NodeId): void {
    let votes = this.#votes.get(term);
    if (!votes) {
      votes = new Map();
      this.#votes.set(term, votes);
    }
    const before = votes.get(voter);
    if (before !== undefined && before !== candidate) {
      const both = `${before} and ${candidate}`;
      throw new Violation("one vote a term", `${voter} votes for ${both} in term ${term}`);
    }
    votes.set(voter, candidate);
  }

  #checkElection(node: CheckedNode, ready: Ready): void {
    const { term } = ready.soft;
    const other = this.#leaders.get(term);
    if (other !== undefined && other !== node.id) {
      throw new Violation("election safety", `${other} and ${node.id} lead term ${term}`);
    }
    this.#leaders.set(term, node.id);
    const voters = votersOf(node.members);
    const votes = this.#votes.get(term);
    const given = voters.filter((id) => votes?.get(id) === node.id);
    if (voters.length > 1 && given.length <= voters.length / 2) {
      const count = `${given.length} of ${voters.length} voters`;
      throw new Violation("only voters vote", `${node.id} leads term ${term} with ${count}`);
    }
    // A leader has what earlier terms committed; one that was slow to learn that it won may be old.
    let index = this.commit;
    while (this.#committedBy[index]! >= term && index > 0) index -= 1;
    // If the newest of these is there, so are all before it: that is "log matching".
    if (index > 0 && !node.hasEntry(index, this.#committed[index]!)) {
      const what = `${node.id} leads term ${term} without committed entry ${index}`;
      throw new Violation("leader completeness", what);
    }
  }

  #checkLeaderCommit(node: CheckedNode, commit: number, leaderTerm: number): void {
    if (commit <= this.commit) return;
    const term = node.termAt(commit)!;
    const voters = votersOf(node.members);
    const holders = voters.filter((id) => this.#nodes.get(id)?.holds(commit, term));
    if (holders.length <= voters.length / 2) {
      const count = `${holders.length} of ${voters.length} disks`;
      const what = `${node.id} commits ${commit}, which is on ${count}`;
      throw new Violation("commit needs a durable majority", what);
    }
    for (let index = this.commit + 1; index <= commit; index += 1) {
      this.#committed.push(node.termAt(index)!);
      this.#committedBy.push(leaderTerm);
    }
  }

  #checkEntries(node: CheckedNode, ready: Ready, before: ReadyContext): void {
    const [first] = ready.entries;
    if (!first) return;
    const isSameOffice = before.role === "leader" && before.term === ready.soft.term;
    if (isSameOffice && first.index <= before.lastIndex) {
      throw new Violation("leader append-only", `${node.id} replaces ${first.index} while leading`);
    }
    let { termBefore } = before;
    for (const entry of ready.entries) {
      this.#versions[entry.index] ??= new Map();
      const versions = this.#versions[entry.index]!;
      const known = versions.get(entry.term);
      if (!known) versions.set(entry.term, { data: entry.data, termBefore });
      else if (known.data !== entry.data || known.termBefore !== termBefore) {
        const what = `two versions of entry ${entry.index} of term ${entry.term}`;
        throw new Violation("log matching", `${node.id} has one of ${what}`);
      }
      termBefore = entry.term;
    }
  }
}

export interface ReadyContext {
  readonly role: string;
  readonly term: number;
  readonly lastIndex: number;
  /** Term of the entry before the Ready's first. */
  readonly termBefore: number;
}

function votersOf(members: readonly Member[]): readonly NodeId[] {
  return members.filter(({ role }) => role !== "learner").map(({ id }) => id);
}
