/**
 * A group that does only what a script says, and tells what happened in words: the interpreter
 * behind the scenarios in test/golden/raft. Each node's disk writes at once unless the script takes
 * it in hand, each message waits until it is delivered or lost. All election timeouts are 10 ticks.
 */

import {
  decodeMembers,
  type Entry,
  type LogReader,
  type Member,
  type MemberRole,
  type Message,
  type NodeId,
  RaftCore,
  type Ready,
  type VoteFloor,
} from "../../mesh/raft/mod.ts";
import { describe } from "./trace.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Longer rows of applied entries are told by their ends. */
const APPLIED_SHOWN_MAX = 3;

class ScriptedDisk implements LogReader {
  entries: Entry[] = [];
  hardState: Ready["hardState"] = null;
  cutIndex = 0;
  cutTerm = 0;
  members: readonly Member[];
  floor: VoteFloor | null = null;
  readonly #founders: readonly Member[];

  constructor(members: readonly Member[]) {
    this.members = members;
    this.#founders = members;
  }

  /** Everything goes but the term, the vote, and where the log ended. */
  leave(): void {
    this.floor = { index: this.lastIndex, term: this.term(this.lastIndex) };
    this.entries = [];
    Object.assign(this, { cutIndex: 0, cutTerm: 0, members: this.#founders });
    if (this.hardState) this.hardState = { ...this.hardState, commit: 0 };
  }

  get firstIndex(): number {
    return this.cutIndex + 1;
  }

  get lastIndex(): number {
    return this.cutIndex + this.entries.length;
  }

  term(index: number): number {
    return index === this.cutIndex ? this.cutTerm : this.entries[index - this.firstIndex]!.term;
  }

  slice(from: number, to: number): readonly Entry[] {
    return this.entries.slice(from - this.firstIndex, to - this.firstIndex);
  }

  write(ready: Ready): void {
    this.hardState = ready.hardState ?? this.hardState;
    const [first] = ready.entries;
    if (first) this.entries.splice(first.index - this.firstIndex, Infinity, ...ready.entries);
  }
}

interface ScriptedNode {
  readonly id: NodeId;
  readonly disk: ScriptedDisk;
  core: RaftCore | null;
  /** Readys whose write the script holds back. */
  readonly held: Ready[];
  isDiskHeld: boolean;
  applied: number;
  role: string;
}

export class ScriptedGroup {
  readonly #nodes = new Map<NodeId, ScriptedNode>();
  #inFlight: Message[] = [];
  readonly #cut = new Set<string>();
  #said: string[] = [];

  /** Does one command; what happened, in lines. */
  run(command: string): readonly string[] {
    const [verb = "", ...words] = command.split(/\s+/);
    const action = this.#commands[verb];
    if (!action) throw new Error(`Cannot run "${command}": no such command`);
    this.#said = [];
    action(words);
    return this.#said;
  }

  readonly #commands: Record<string, (words: string[]) => void> = {
    members: (words) => this.#create(words.map(parseMember)),
    given: ([id, ...words]) => this.#given(id!, words),
    join: ([id]) => this.#start(this.#add(id!, [...this.#nodes.values()][0]!.disk.members)),
    tick: ([id, count = "1"]) => {
      for (let i = 0; i < Number(count); i += 1) this.#act(id!, (core) => core.tick());
    },
    elect: ([id]) => {
      this.#act(id!, (core) => {
        for (let i = 0; i < 10; i += 1) core.tick();
      });
      this.#deliver(undefined, undefined);
      const { role, term } = this.#node(id!).core!.soft;
      // How an election goes is told in a scenario of its own.
      this.#said = [`${id} is ${role} in term ${term}`];
    },
    campaign: ([id]) => this.#act(id!, (core) => core.campaignNow()),
    propose: ([id, ...words]) => {
      for (const word of words) {
        const data = encoder.encode(word);
        this.#act(id!, (core) => this.#refusedIf(core.propose(data) === null, "no"));
      }
    },
    change: ([id, step]) => this.#change(id!, step!),
    transfer: ([id, to]) => {
      this.#act(id!, (core) => this.#refusedIf(!core.transferLeadership(to!), "no"));
    },
    unreachable: ([id, other]) => this.#act(id!, (core) => core.unreachable(other!)),
    reachable: ([id, other]) => this.#act(id!, (core) => core.reachable(other!)),
    stall: ([id]) => this.#act(id!, (core) => core.stalled()),
    deliver: ([link, what]) => this.#deliver(link, what),
    lose: ([link, what]) => this.#lose(link, what),
    double: ([link]) => {
      this.#inFlight.push(...this.#inFlight.filter((message) => isOn(message, link)));
    },
    reverse: () => {
      this.#inFlight.reverse();
    },
    flying: () => {
      for (const message of this.#inFlight) this.#say(lineOf(message));
    },
    cut: ([id]) => {
      this.#cut.add(id!);
    },
    heal: ([id]) => {
      this.#cut.delete(id!);
    },
    hold: ([id]) => {
      this.#node(id!).isDiskHeld = true;
    },
    persist: ([id]) => this.#persist(this.#node(id!)),
    crash: ([id, when]) => this.#crash(this.#node(id!), when === "after-write"),
    start: ([id]) => this.#start(this.#node(id!)),
    leave: ([id]) => {
      const node = this.#node(id!);
      this.#crash(node, false);
      node.disk.leave();
    },
    cutlog: ([id, index]) => this.#cutLog(this.#node(id!), Number(index)),
    seed: ([id, from]) => this.#seed(this.#node(id!), this.#node(from!)),
    forge: (words) => this.#forge(words),
    refusals: ([id]) => this.#refusals(id!),
    state: (ids) => this.#state(ids),
    progress: ([id]) => {
      for (const p of this.#node(id!).core!.progress()) {
        this.#say(`${p.id} ${p.role} ${p.state} match ${p.match} next ${p.next}`);
      }
    },
  };

  #create(members: readonly Member[]): void {
    for (const { id } of members) this.#add(id, members);
    for (const node of this.#nodes.values()) this.#start(node);
  }

  #add(id: NodeId, members: readonly Member[]): ScriptedNode {
    const disk = new ScriptedDisk(members);
    const node = { id, disk, core: null, held: [], isDiskHeld: false, applied: 0, role: "" };
    this.#nodes.set(id, node);
    return node;
  }

  /** `given a term=3 commit=1 log=1,1,2`: the node starts again with that on its disk. */
  #given(id: NodeId, words: readonly string[]): void {
    const node = this.#node(id);
    const values = valuesOf(words);
    const terms = (values.log ?? "").split(",").filter(Boolean).map(Number);
    node.disk.entries = terms.map((term, i) => ({
      index: i + 1,
      term,
      kind: "data",
      data: encoder.encode(`${term}.${i + 1}`),
    }));
    const commit = Number(values.commit ?? 0);
    node.disk.hardState = { term: Number(values.term), votedFor: null, commit };
    node.applied = 0;
    this.#start(node);
  }

  #node(id: NodeId): ScriptedNode {
    const node = this.#nodes.get(id);
    if (!node) throw new Error(`Cannot find node "${id}"`);
    return node;
  }

  #act(id: NodeId, action: (core: RaftCore) => void): void {
    const node = this.#node(id);
    if (!node.core) throw new Error(`Cannot use node "${id}": it is down`);
    action(node.core);
    this.#pump(node);
  }

  #start(node: ScriptedNode): void {
    node.core = new RaftCore({
      id: node.id,
      members: node.disk.members,
      hardState: node.disk.hardState,
      log: node.disk,
      floor: node.disk.floor,
      prng: { next: () => 0 },
    });
    node.applied = node.disk.cutIndex;
    node.role = node.core.soft.role;
    this.#pump(node);
  }

  #crash(node: ScriptedNode, isAfterWrite: boolean): void {
    if (isAfterWrite) for (const ready of node.held) node.disk.write(ready);
    node.held.length = 0;
    node.isDiskHeld = false;
    node.core = null;
  }

  #pump(node: ScriptedNode): void {
    while (node.core?.hasReady()) {
      const ready = node.core.ready();
      const { role, term } = ready.soft;
      if (role !== node.role) this.#say(`${node.id} is ${role} in term ${term}`);
      node.role = role;
      this.#inFlight.push(...ready.messagesNow);
      this.#apply(node, ready.committed);
      if (ready.hardState || ready.entries.length > 0 || ready.messages.length > 0) {
        node.held.push(ready);
      }
      if (!node.isDiskHeld) this.#write(node, ready.number);
    }
  }

  #write(node: ScriptedNode, number: number): void {
    for (const ready of node.held.splice(0)) {
      const [first] = ready.entries;
      if (first && first.index <= node.disk.lastIndex) {
        this.#say(`${node.id} replaces ${first.index} to ${node.disk.lastIndex}`);
      }
      node.disk.write(ready);
      this.#inFlight.push(...ready.messages);
    }
    node.core!.advance(number, node.applied);
  }

  #persist(node: ScriptedNode): void {
    node.isDiskHeld = false;
    const newest = node.held.at(-1);
    if (newest) this.#write(node, newest.number);
    this.#pump(node);
  }

  #apply(node: ScriptedNode, entries: readonly Entry[]): void {
    const [first] = entries;
    const last = entries.at(-1);
    if (!first || !last) return;
    node.applied = last.index;
    if (entries.length > APPLIED_SHOWN_MAX) {
      this.#say(`${node.id} applies ${first.index} to ${last.index}`);
      return;
    }
    for (const entry of entries) this.#say(`${node.id} applies ${entry.index} ${contentOf(entry)}`);
  }

  /** Delivers what is on `link` now, or everything until nothing moves. */
  #deliver(link: string | undefined, what: string | undefined): void {
    if (link === undefined) {
      while (this.#inFlight.length > 0) this.#hand(this.#inFlight.shift()!);
      return;
    }
    const chosen = this.#inFlight.filter((message) => isOn(message, link, what));
    this.#inFlight = this.#inFlight.filter((message) => !chosen.includes(message));
    for (const message of chosen) this.#hand(message);
  }

  #hand(message: Message): void {
    const node = this.#nodes.get(message.to);
    if (!node?.core || this.#cut.has(message.to) || this.#cut.has(message.from)) return;
    // Heartbeats would hide what the script is about; their commit shows in what is applied.
    if (!message.kind.startsWith("heartbeat")) this.#say(lineOf(message));
    this.#act(message.to, (core) => core.step(message));
  }

  #lose(link: string | undefined, what: string | undefined): void {
    this.#inFlight = this.#inFlight.filter((message) => !isOn(message, link, what));
  }

  /** `+d=learner` adds, `-d` removes, `d=replica` gives another role. */
  #change(id: NodeId, step: string): void {
    this.#act(id, (core) => {
      const changed = parseMember(step.replace(/^[+-]/, ""));
      const others = core.members.filter((member) => member.id !== changed.id);
      const members = step.startsWith("-") ? others : [...others, changed];
      this.#refusedIf(core.proposeConfig(members) === null, "not now");
    });
  }

  #cutLog(node: ScriptedNode, index: number): void {
    const { disk } = node;
    disk.cutTerm = disk.term(index);
    for (const entry of disk.entries.splice(0, index - disk.cutIndex)) {
      if (entry.kind === "config") disk.members = decodeMembers(entry.data)!;
    }
    disk.cutIndex = index;
  }

  /** The node takes the other's checkpoint, and starts again from it. */
  #seed(node: ScriptedNode, from: ScriptedNode): void {
    const { cutIndex, cutTerm, members } = from.disk;
    Object.assign(node.disk, { entries: [], cutIndex, cutTerm, members });
    const term = Math.max(node.disk.hardState?.term ?? 0, cutTerm);
    node.disk.hardState = { term, votedFor: null, commit: cutIndex };
    this.#start(node);
  }

  /** `forge append b>a term=3 index=1 logTerm=1 log=2,2`: a message that nobody's core has sent. */
  #forge(words: readonly string[]): void {
    const [kind, link = "", ...rest] = words;
    const [from, to] = link.split(">") as [NodeId, NodeId];
    const values = valuesOf(rest);
    const index = Number(values.index ?? 0);
    const terms = (values.log ?? "").split(",").filter(Boolean).map(Number);
    const entries = terms.map((term, i): Entry => {
      return { index: index + 1 + i, term, kind: "data", data: encoder.encode("forged") };
    });
    this.#inFlight.push({
      kind: kind as Message["kind"],
      from,
      to,
      term: Number(values.term),
      index,
      logTerm: Number(values.logTerm ?? 0),
      commit: Number(values.commit ?? 0),
      entries,
      reject: values.reject === "true",
      transfer: values.transfer === "true",
    });
  }

  #refusals(id: NodeId): void {
    for (const [reason, count] of Object.entries(this.#node(id).core!.refusals)) {
      if (count > 0) this.#say(`${reason} ${count}`);
    }
  }

  #state(ids: readonly NodeId[]): void {
    for (const node of this.#nodes.values()) {
      if (ids.length > 0 && !ids.includes(node.id)) continue;
      if (!node.core) {
        this.#say(`${node.id} is down`);
        continue;
      }
      const { role, term, leader, commit, lastIndex, needsSeed } = node.core.soft;
      const terms: string[] = [];
      for (let i = node.disk.firstIndex; i <= lastIndex; i += 1)
        terms.push(`${node.core.termAt(i)}`);
      const cut = node.disk.cutIndex > 0 ? `(cut to ${node.disk.cutIndex}) ` : "";
      const seed = needsSeed.length > 0 ? `, to be seeded: ${needsSeed.join(" ")}` : "";
      const led = role === "follower" ? ` of ${leader ?? "nobody"}` : "";
      const log = `${cut}${terms.join(" ") || "empty"}`;
      this.#say(`${node.id} ${role}${led}, term ${term}, commit ${commit}, log ${log}${seed}`);
    }
  }

  #refusedIf(isRefused: boolean, answer: string): void {
    if (isRefused) this.#say(answer);
  }

  #say(line: string): void {
    this.#said.push(line);
  }
}

/** `term=3 log=1,2` */
function valuesOf(words: readonly string[]): Record<string, string | undefined> {
  return Object.fromEntries(words.map((word) => word.split("=")));
}

function parseMember(word: string): Member {
  const [id = "", role = "replica"] = word.split("=");
  return { id, role: role as MemberRole };
}

/** `a>b`, `a>*` or `*>b`. */
function isOn(message: Message, link: string | undefined, kind?: string): boolean {
  if (kind !== undefined && message.kind !== kind) return false;
  if (link === undefined) return true;
  const [from, to] = link.split(">");
  return (from === "*" || from === message.from) && (to === "*" || to === message.to);
}

function lineOf(message: Message): string {
  return `${message.from}>${message.to} ${describe(message)}`;
}

function contentOf(entry: Entry): string {
  if (entry.kind === "noop") return `(no-op of term ${entry.term})`;
  if (entry.kind === "data") return decoder.decode(entry.data);
  const members = decodeMembers(entry.data) ?? [];
  return `members ${members.map(({ id, role }) => `${id}=${role}`).join(" ")}`;
}
