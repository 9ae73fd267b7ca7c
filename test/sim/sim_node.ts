/**
 * One simulated node: what an owner of a core does, with a simulated disk, network and VM. A crash
 * throws away everything but the disk. It follows the order that `Ready` demands, unless a canary
 * says otherwise.
 */

import {
  decodeMembers,
  type Entry,
  type Member,
  type Message,
  type NodeId,
  RaftCore,
  type RaftLimits,
  type Ready,
} from "../../mesh/raft/mod.ts";
import type { Prng } from "../../src/prng.ts";
import { type Canary, rulesWith } from "./canaries.ts";
import type { CheckedNode, Checkers } from "./checkers.ts";
import { Violation } from "./checkers.ts";
import type { EventQueue } from "./event_queue.ts";
import type { Checkpoint, SimDisk } from "./sim_disk.ts";
import type { SimNetwork } from "./sim_network.ts";
import type { Trace } from "./trace.ts";
import { decodeChunk, encodeChunk, outputContent, type Reader, VmCopy } from "./vm_model.ts";

/** Small, so that every limit is met within a short run. */
export const SIM_LIMITS: Partial<RaftLimits> = {
  entryBytesMax: 2048,
  appendBytesMax: 1024,
  inflightBytesMax: 4096,
  inflightAppendsMax: 8,
  uncommittedBytesMax: 16384,
  unpersistedBytesMax: 8192,
  tailBytesMax: 2048,
  applyBytesMax: 4096,
};

/** Outputs that a new primary says again, as it can't know that they arrived. */
const SAID_AGAIN = 5;

export interface SimWorld {
  readonly queue: EventQueue;
  readonly prng: Prng;
  readonly network: SimNetwork;
  readonly trace: Trace;
  readonly checkers: Checkers;
  readonly reader: Reader;
  readonly canary: Canary | null;
  readonly limits: Partial<RaftLimits>;
}

/** A VM that runs ahead of commit on the primary. */
interface LivePrimary {
  readonly term: number;
  nextOutput: number;
}

export class SimNode implements CheckedNode {
  readonly id: NodeId;
  readonly disk: SimDisk;
  readonly #world: SimWorld;
  #core: RaftCore | null = null;
  #vm = new VmCopy([], 0);
  #live: LivePrimary | null = null;
  /** As of the applied entries; the core's may be newer. */
  #members: readonly Member[] = [];
  #persisted = 0;
  #applied = 0;
  #before = { role: "follower", term: 0, lastIndex: 0 };
  #isPumping = false;
  /** Not null while the process stands still; then it happens all at once. */
  #backlog: (() => void)[] | null = null;
  #epoch = 0;

  constructor(id: NodeId, disk: SimDisk, world: SimWorld) {
    this.id = id;
    this.disk = disk;
    this.#world = world;
  }

  get isUp(): boolean {
    return this.#core !== null;
  }

  get isStalled(): boolean {
    return this.#backlog !== null;
  }

  get core(): RaftCore {
    if (!this.#core) throw new Error(`Cannot use node "${this.id}": it is down`);
    return this.#core;
  }

  get isLive(): boolean {
    return this.#live !== null && this.#live.term === this.#core?.soft.term;
  }

  get applied(): number {
    return this.#applied;
  }

  get epoch(): number {
    return this.#epoch;
  }

  get members(): readonly Member[] {
    return this.core.members;
  }

  holds(index: number, term: number): boolean {
    return this.disk.holds(index, term);
  }

  termAt(index: number): number | undefined {
    return this.core.termAt(index);
  }

  hasEntry(index: number, term: number): boolean {
    return index < this.disk.checkpoint.index || this.core.termAt(index) === term;
  }

  start(): void {
    const { prng, canary, limits } = this.#world;
    const { checkpoint, hardState } = this.disk;
    this.#core = new RaftCore({
      id: this.id,
      members: checkpoint.members,
      hardState,
      floor: this.disk.floor,
      log: this.disk,
      prng: prng.fork(),
      limits,
      rules: rulesWith(canary),
    });
    this.#persisted = 0;
    this.#applied = checkpoint.index;
    this.#members = checkpoint.members;
    this.#vm = new VmCopy(checkpoint.outputs, checkpoint.history);
    const { role, term, lastIndex } = this.#core.soft;
    this.#before = { role, term, lastIndex };
    this.#note("starts");
    this.pump();
  }

  crash(): void {
    this.disk.crash();
    this.#core = null;
    this.#live = null;
    this.#backlog = null;
    this.#epoch += 1;
    this.#note("crashes");
  }

  stall(): void {
    this.#backlog = [];
    this.#note("stands still");
  }

  resume(): void {
    const backlog = this.#backlog ?? [];
    this.#backlog = null;
    this.#note("goes on");
    this.core.stalled();
    for (const action of backlog) if (this.isUp) action();
    if (this.isUp) this.pump();
  }

  /** Does it to the core now, or when the process goes on. */
  act(action: (core: RaftCore) => void): void {
    if (this.#core === null) return;
    if (this.#backlog) {
      this.#backlog.push(() => this.act(action));
      return;
    }
    action(this.#core);
    this.pump();
  }

  tick(): void {
    // A process that stood still makes up for none of its ticks.
    if (!this.#backlog) this.act((core) => core.tick());
  }

  /** As primary: the VM runs and records a chunk. */
  work(): void {
    this.act((core) => {
      const live = this.#live;
      if (!live || live.term !== core.soft.term || core.soft.role !== "leader") return;
      const { prng, canary } = this.#world;
      const chunk = {
        first: live.nextOutput,
        count: prng.between(0, 3),
        nonce: prng.between(0, 0x7fffffff),
      };
      const padding = prng.chance(0.05) ? prng.between(100, 1500) : prng.between(0, 40);
      const data = encodeChunk(chunk, padding);
      if (core.propose(data) === null) return;
      live.nextOutput += chunk.count;
      if (canary === "output-before-commit") this.#release(data);
    });
  }

  /** Cuts the log behind a checkpoint of what is applied. */
  cut(): void {
    const checkpoint = this.checkpoint();
    if (!checkpoint || checkpoint.index <= this.disk.checkpoint.index) return;
    this.disk.cut(checkpoint);
    this.#note(`cuts to ${checkpoint.index}`);
  }

  /** Of the VM as it is now; null when that place is not on the disk. */
  checkpoint(): Checkpoint | null {
    if (!this.isUp || this.isStalled) return null;
    const index = this.#applied;
    const term = this.core.termAt(index);
    if (term === undefined || !this.disk.holds(index, term)) return null;
    const { outputs, history } = this.#vm;
    return { index, term, members: this.#members, outputs: [...outputs], history };
  }

  pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      while (this.#core?.hasReady()) this.#handle(this.#core, this.#core.ready());
    } finally {
      this.#isPumping = false;
    }
  }

  #handle(core: RaftCore, ready: Ready): void {
    const { checkers, network, canary } = this.#world;
    const { role, term, lastIndex } = this.#before;
    const first = ready.entries[0];
    const termBefore = first ? (core.termAt(first.index - 1) ?? 0) : 0;
    checkers.ready(this, ready, { role, term, lastIndex, termBefore });
    if (ready.soft.role !== role || ready.soft.term !== term) {
      this.#note(`is ${ready.soft.role} in term ${ready.soft.term}`);
    }
    this.#before = ready.soft;
    for (const message of ready.messagesNow) network.send(message);
    if (canary === "send-before-persist") this.#send(ready.messages);
    const { number, hardState, entries, mustSync } = ready;
    const done = () => this.#durable(core, ready);
    this.disk.submit({ number, hardState, entries, mustSync, done });
    if (this.#core !== core) return;
    for (const entry of ready.committed) this.#apply(core, entry);
    core.advance(this.#persisted, this.#applied);
  }

  /** The Ready is on the disk. */
  #durable(core: RaftCore, ready: Ready): void {
    if (this.#core !== core) return;
    if (this.#backlog) {
      this.#backlog.push(() => this.#durable(core, ready));
      return;
    }
    this.#persisted = ready.number;
    if (this.#world.canary !== "send-before-persist") this.#send(ready.messages);
    core.advance(this.#persisted, this.#applied);
    this.pump();
  }

  #send(messages: readonly Message[]): void {
    for (const message of messages) {
      this.#world.checkers.sent(message);
      this.#world.network.send(message);
    }
  }

  #apply(core: RaftCore, entry: Entry): void {
    const role = core.members.find(({ id }) => id === this.id)?.role;
    this.#world.checkers.applied(this, entry, this.#vm);
    this.#applied = entry.index;
    if (entry.kind === "config") this.#members = decodeMembers(entry.data) ?? this.#members;
    const { soft } = core;
    if (soft.role !== "leader") this.#live = null;
    else if (entry.kind === "noop" && entry.term === soft.term && role === "replica") {
      this.#goLive(soft.term);
    } else if (entry.kind === "data" && this.#live?.term === soft.term) {
      this.#release(entry.data);
    }
  }

  /** The whole log is applied: this copy is the VM now. It says again what may not have arrived. */
  #goLive(term: number): void {
    this.#note(`goes live in term ${term}`);
    this.#live = { term, nextOutput: this.#vm.outputs.length };
    const { outputs } = this.#vm;
    const { reader } = this.#world;
    for (let i = Math.max(0, reader.count - SAID_AGAIN); i < outputs.length; i += 1) {
      this.#tell(i, outputs[i]!);
    }
  }

  #release(data: Uint8Array): void {
    const chunk = decodeChunk(data);
    for (let i = 0; i < chunk.count; i += 1) this.#tell(chunk.first + i, outputContent(chunk, i));
  }

  #tell(number: number, content: number): void {
    const why = this.#world.reader.take(number, content);
    if (why !== null) throw new Violation("outputs once and in order", `${this.id}: ${why}`);
  }

  #note(text: string): void {
    this.#world.trace.event(this.#world.queue.nowMs, this.id, text);
  }
}
