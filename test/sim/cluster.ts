/**
 * One run: the nodes of a scenario, their troubles, and after these the proof of life. It owns the
 * order of events; whatever is drawn comes from the seed alone.
 */

import type { Member, MemberRole, Message, NodeId, RaftCore } from "../../mesh/raft/mod.ts";
import { Prng } from "../../src/prng.ts";
import { CANARY_CONDITIONS, type Canary } from "./canaries.ts";
import { Checkers, Violation } from "./checkers.ts";
import { EventQueue } from "./event_queue.ts";
import { drawScenario, type Scenario } from "./scenario.ts";
import { SimDisk } from "./sim_disk.ts";
import { SimNetwork } from "./sim_network.ts";
import { SIM_LIMITS, SimNode, type SimWorld } from "./sim_node.ts";
import { Trace } from "./trace.ts";
import { Reader } from "./vm_model.ts";

const TICK_MS = 100;
/** After healing, the group must do all it is there for within so many ticks. */
const LIVENESS_TICKS_MAX = 150;
const SLOW_SYNC_MS_MAX = 1_000;
const LEADER_WATCH_MS = 10;

export interface RunOptions {
  readonly canary?: Canary | null;
  readonly print?: ((line: string) => void) | null;
  /** Takes the place of what the seed would draw. */
  readonly scenario?: Partial<Scenario>;
}

export interface RunResult {
  readonly hash: string;
  readonly outputCount: number;
  readonly commit: number;
  /** Ticks from healing until all was well. */
  readonly recoveryTicks: number;
}

/** Runs the scenario of `seed`; throws a Violation when something does not hold. */
export function runSeed(seed: number, options: RunOptions = {}): RunResult {
  try {
    return new Cluster(seed, options).run();
  } catch (error) {
    if (error instanceof Violation) throw error;
    throw new Violation("the core's own checks", String(error), { cause: error });
  }
}

class Cluster {
  readonly #queue = new EventQueue();
  readonly #prng: Prng;
  readonly #scenario: Scenario;
  readonly #nodes = new Map<NodeId, SimNode>();
  readonly #world: SimWorld;
  /** Everybody who may be a member. */
  readonly #names: readonly NodeId[];
  #isTrouble = true;
  /** Newest term whose leader was killed as a new one. */
  #killedTerm = 0;

  constructor(seed: number, options: RunOptions) {
    this.#prng = new Prng(seed);
    const canary = options.canary ?? null;
    const conditions = canary === null ? {} : (CANARY_CONDITIONS[canary] ?? {});
    this.#scenario = { ...drawScenario(this.#prng), ...conditions, ...options.scenario };
    this.#names = [...this.#scenario.members.map(({ id }) => id), ...this.#scenario.spares];
    const trace = new Trace(options.print ?? null);
    const deliver = (message: Message) => this.#deliver(message);
    this.#world = {
      queue: this.#queue,
      prng: this.#prng,
      network: new SimNetwork(this.#queue, this.#prng, { trace, deliver }),
      trace,
      checkers: new Checkers(this.#nodes),
      reader: new Reader(),
      canary,
      limits: { ...SIM_LIMITS, appendBytesMax: this.#scenario.appendBytesMax },
    };
    options.print?.(JSON.stringify(this.#scenario));
  }

  run(): RunResult {
    const { members, network, troubleMs } = this.#scenario;
    this.#world.network.faults = network;
    for (const { id } of members) this.#addNode(id);
    this.#planTroubles();
    while (this.#queue.step(troubleMs));
    this.#heal();
    const recoveryTicks = this.#awaitRecovery();
    const { trace, reader, checkers } = this.#world;
    return { hash: trace.hash, outputCount: reader.count, commit: checkers.commit, recoveryTicks };
  }

  #addNode(id: NodeId): void {
    const { scenario, prng, world } = {
      scenario: this.#scenario,
      prng: this.#prng,
      world: this.#world,
    };
    const isSlow = scenario.slowDiskMs > 0 && prng.chance(0.3);
    const syncMs = () => {
      if (!this.#isTrouble) return 1;
      if (isSlow) return scenario.slowDiskMs;
      return prng.chance(scenario.slowSync)
        ? prng.between(1, SLOW_SYNC_MS_MAX)
        : prng.between(1, scenario.syncMsMax);
    };
    const faults = {
      acksEarly: world.canary === "ack-before-fsync",
      forgetsVotes: world.canary === "vote-not-persisted",
      forgetsFloor: world.canary === "floor-forgotten",
    };
    const disk = new SimDisk(this.#queue, prng, { members: scenario.members, faults, syncMs });
    const node = new SimNode(id, disk, world);
    if (scenario.isLogLazy) disk.onLoaded = () => node.act((core) => core.logLoaded());
    disk.crashPoint = () => {
      if (!this.#isTrouble || !prng.chance(scenario.crashAtWrite)) return false;
      this.#crash(node);
      return true;
    };
    this.#nodes.set(id, node);
    this.#start(node);
    const tickMs = TICK_MS + prng.between(-5, 5);
    this.#every(
      () => tickMs,
      () => node.tick(),
    );
    this.#every(
      () => prng.between(1, 2 * scenario.chunkEveryMs),
      () => node.work(),
    );
  }

  #start(node: SimNode): void {
    node.start();
    for (const other of this.#nodes.values()) {
      if (other !== node) this.#later(other, [1, 50], (core) => core.reachable(node.id));
    }
  }

  #crash(node: SimNode): void {
    if (!node.isUp) return;
    const wasSeen = this.#prng.chance(0.7);
    node.crash();
    this.#queue.after(this.#prng.between(100, 3_000), () => {
      if (!node.isUp) this.#start(node);
    });
    if (wasSeen) this.#seeClosed(node.id);
  }

  /**
   * The others see their connection to the node close; one of them does not wait for a time-out.
   */
  #seeClosed(id: NodeId): void {
    for (const other of this.#nodes.values()) {
      if (other.id === id || !other.isUp) continue;
      this.#later(other, [1, 20], (core) => {
        const isLeader = core.soft.leader === id;
        core.unreachable(id);
        if (!isLeader) return;
        this.#later(other, [50, 200], () => {
          if (core.soft.leader === id) core.campaignNow();
        });
      });
    }
  }

  #later(
    node: SimNode,
    [min, max]: readonly [number, number],
    act: (core: RaftCore) => void,
  ): void {
    const { epoch } = node;
    this.#queue.after(this.#prng.between(min, max), () => {
      if (node.epoch === epoch) node.act(act);
    });
  }

  #every(delayMs: () => number, action: () => void): void {
    const again = () => {
      action();
      this.#queue.after(delayMs(), again);
    };
    this.#queue.after(delayMs(), again);
  }

  #deliver(message: Message): void {
    const node = this.#nodes.get(message.to);
    if (!node?.isUp) return;
    this.#world.trace.message(this.#queue.nowMs, "take", message);
    node.act((core) => core.step(message));
  }

  // ---- troubles

  #planTroubles(): void {
    const s = this.#scenario;
    this.#trouble(s.crashEveryMs, () => this.#crash(this.#anyNode()));
    this.#trouble(s.crashLeaderWithinMs > 0 ? LEADER_WATCH_MS : 0, () => this.#crashNewLeader());
    this.#trouble(s.partitionEveryMs, () => this.#partition());
    this.#trouble(s.flapEveryMs, () => this.#flap());
    this.#trouble(s.stallEveryMs, () => this.#stall(this.#anyNode()));
    this.#trouble(s.jumpEveryMs, () => this.#jump(this.#anyNode()));
    this.#trouble(s.transferEveryMs, () => this.#transfer());
    this.#trouble(s.changeEveryMs, () => this.#changeMembers());
    this.#trouble(s.cutEveryMs, () => this.#anyNode().cut());
    this.#trouble(s.leaveEveryMs, () => this.#leave());
    this.#every(
      () => 200,
      () => this.#seed(),
    );
  }

  #trouble(everyMs: number, action: () => void): void {
    if (everyMs === 0) return;
    this.#every(
      () => this.#prng.between(1, 2 * everyMs),
      () => {
        if (this.#isTrouble) action();
      },
    );
  }

  #anyNode(): SimNode {
    return this.#prng.pick([...this.#nodes.values()]);
  }

  /** A new leader dies within its first moments: figure 8 of the paper. */
  #crashNewLeader(): void {
    const leader = this.#leader();
    if (!leader || leader.core.soft.term <= this.#killedTerm) return;
    this.#killedTerm = leader.core.soft.term;
    const { epoch } = leader;
    this.#queue.after(this.#prng.between(0, this.#scenario.crashLeaderWithinMs), () => {
      if (this.#isTrouble && leader.epoch === epoch) this.#crash(leader);
    });
  }

  /** Two sides that do not hear each other, or one of them not the other. */
  #partition(): void {
    const ids = [...this.#nodes.keys()];
    const side = new Set(ids.filter(() => this.#prng.chance(0.5)));
    const isOneWay = this.#prng.chance(0.3);
    const cuts: [NodeId, NodeId][] = [];
    for (const from of ids) {
      for (const to of ids) {
        if (from === to || side.has(from) === side.has(to)) continue;
        if (!isOneWay || side.has(from)) cuts.push([from, to]);
      }
    }
    this.#cut(cuts, this.#prng.between(200, 4_000));
  }

  #flap(): void {
    const [from, to] = [this.#anyNode().id, this.#anyNode().id];
    if (from !== to) this.#cut([[from, to]], this.#prng.between(50, 400));
  }

  #cut(cuts: readonly (readonly [NodeId, NodeId])[], durationMs: number): void {
    const { network } = this.#world;
    for (const [from, to] of cuts) network.setCut(from, to, true);
    this.#queue.after(durationMs, () => {
      for (const [from, to] of cuts) network.setCut(from, to, false);
    });
  }

  #stall(node: SimNode): void {
    if (!node.isUp || node.isStalled) return;
    node.stall();
    const { epoch } = node;
    this.#queue.after(this.#prng.between(300, 5_000), () => {
      if (node.epoch === epoch && node.isStalled) node.resume();
    });
  }

  #jump(node: SimNode): void {
    const ticks = this.#prng.between(2, 40);
    this.#world.trace.event(this.#queue.nowMs, node.id, `jumps ${ticks} ticks ahead`);
    for (let i = 0; i < ticks; i += 1) node.tick();
  }

  #transfer(): void {
    const to = this.#anyNode().id;
    this.#leader()?.act((core) => core.transferLeadership(to));
  }

  /** Whoever leads with the highest term: the one that a client would find in the end. */
  #leader(): SimNode | null {
    let best: SimNode | null = null;
    for (const node of this.#nodes.values()) {
      if (!node.isUp || node.isStalled || node.core.soft.role !== "leader") continue;
      if (!best || node.core.soft.term > best.core.soft.term) best = node;
    }
    return best;
  }

  // ---- membership

  #changeMembers(): void {
    const leader = this.#leader();
    if (!leader) return;
    const members = this.#nextMembers(leader.members);
    if (!members) return;
    leader.act((core) => {
      if (core.soft.role !== "leader" || core.proposeConfig(members) === null) return;
      const text = members.map(({ id, role }) => `${id}=${role}`).join(" ");
      this.#world.trace.event(this.#queue.nowMs, leader.id, `proposes members ${text}`);
      for (const { id } of members) if (!this.#nodes.has(id)) this.#addNode(id);
    });
  }

  /** A membership one step away; null when the drawn step makes no sense. */
  #nextMembers(members: readonly Member[]): readonly Member[] | null {
    const { id, role } = this.#prng.pick(members);
    const others = members.filter((member) => member.id !== id);
    switch (this.#prng.between(0, 3)) {
      case 0: {
        const outside = this.#names.filter((name) => !members.some((known) => known.id === name));
        if (outside.length === 0) return null;
        return [...members, { id: this.#prng.pick(outside), role: "learner" }];
      }
      case 1: {
        if (role !== "learner") return null;
        return [...others, { id, role: this.#prng.chance(0.7) ? "replica" : "witness" }];
      }
      case 2: {
        return others.some((other) => other.role === "replica") ? others : null;
      }
      default: {
        const roles: readonly MemberRole[] = ["replica", "witness", "learner"];
        const other = this.#prng.pick(roles);
        if (other === role) return null;
        const changed: readonly Member[] = [...others, { id, role: other }];
        return changed.some((member) => member.role === "replica") ? changed : null;
      }
    }
  }

  /** A node that was dropped gives its log up; it may be taken in again at any time. */
  #leave(): void {
    const leader = this.#leader();
    if (!leader || leader.core.membersIndex > leader.core.soft.commit) return;
    const isMember = (id: NodeId) => leader.members.some((member) => member.id === id);
    const dropped = [...this.#nodes.values()].filter(({ id, isUp }) => isUp && !isMember(id));
    if (dropped.length === 0) return;
    const node = this.#prng.pick(dropped);
    if (node.isStalled) return;
    node.crash();
    node.disk.leave();
    this.#world.trace.event(this.#queue.nowMs, node.id, "has left");
    this.#start(node);
  }

  /** Followers that need entries which were cut get the leader's checkpoint. */
  #seed(): void {
    const leader = this.#leader();
    const [id] = leader?.core.soft.needsSeed ?? [];
    const target = id === undefined ? undefined : this.#nodes.get(id);
    const checkpoint = leader?.checkpoint();
    if (!checkpoint || !target?.isUp || target.isStalled) return;
    if (target.core.soft.commit >= checkpoint.index) return;
    if (this.#world.network.isCut(leader!.id, target.id)) return;
    target.crash();
    target.disk.seed(checkpoint);
    this.#world.trace.event(this.#queue.nowMs, target.id, `is seeded to ${checkpoint.index}`);
    this.#start(target);
  }

  // ---- the proof of life

  #heal(): void {
    this.#isTrouble = false;
    this.#world.trace.event(this.#queue.nowMs, "*", "all is healed");
    this.#world.network.healAll();
    for (const node of this.#nodes.values()) {
      if (!node.isUp) this.#start(node);
      else if (node.isStalled) node.resume();
      for (const other of this.#nodes.values()) {
        if (other !== node) node.act((core) => core.reachable(other.id));
      }
    }
  }

  /** Ticks until a replica is live, new outputs came, and every member has applied them. */
  #awaitRecovery(): number {
    const { reader, checkers } = this.#world;
    const outputsBefore = reader.count;
    const commitBefore = checkers.commit;
    const healedMs = this.#queue.nowMs;
    for (let ticks = 1; ticks <= LIVENESS_TICKS_MAX; ticks += 1) {
      while (this.#queue.step(healedMs + ticks * TICK_MS));
      const leader = this.#leader();
      if (!leader?.isLive || reader.count <= outputsBefore) continue;
      const { members } = leader;
      const isAllThere = members.every(({ id }) => this.#nodes.get(id)!.applied > commitBefore);
      if (isAllThere) return ticks;
    }
    throw new Violation("liveness", `no recovery within ${LIVENESS_TICKS_MAX} ticks of healing`);
  }
}
