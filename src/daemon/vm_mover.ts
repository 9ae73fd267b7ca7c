/**
 * Moves a member of a VM to another node while the VM runs: the new one is taken in and brought up
 * to date, gets a vote, becomes the primary if it replaces it, and only then the old one is
 * dropped. Every step is one of the VM's group; a mover that dies leaves a VM that works, and the
 * group's leader puts right what is left over.
 */
import type { Mesh, NodeId } from "../../mesh/mod.ts";
import { cannot, oneLine, type UserError } from "../user_error.ts";
import type { CopyStatus } from "../vm/vm_entries.ts";
import type { VmSpec } from "../vm/vm_spec.ts";
import { type GroupChange, VM_CHANGE, VM_LEAVE } from "./member_rpc.ts";
import type { VmRouter } from "./vm_router.ts";
import { condition, membersNow, primaryOf } from "./vm_view.ts";

export const moverLimits = {
  /** All of a move; a large VM's images and log have to travel. */
  totalMs: 600_000,
  /** One step of the group. A new member fetches images within it. */
  stepMs: 125_000,
  /** Between two looks at the members. */
  pollMs: 50,
  /** A newcomer this many chunks behind the primary may vote. */
  lagChunksMax: 8,
} as const;

export interface MoveOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
}

type Statuses = ReadonlyMap<NodeId, CopyStatus>;

export class VmMover {
  readonly #mesh: Mesh;
  readonly #router: VmRouter;

  constructor(parts: { readonly mesh: Mesh; readonly router: VmRouter }) {
    this.#mesh = parts.mesh;
    this.#router = parts.router;
  }

  /** Puts the member on `from` (the primary, if null) to the node `to`. */
  async move(
    spec: VmSpec,
    given: { readonly to: NodeId; readonly from: NodeId | null },
    options: MoveOptions,
  ): Promise<void> {
    const statuses = await this.#router.statuses(spec);
    if (condition(statuses) === "ended") throw this.#cannot(spec, "it has ended");
    const from = given.from ?? primaryOf(statuses);
    if (from === null) throw this.#cannot(spec, "it has no primary now");
    const members = membersNow(spec, statuses);
    const old = members.find(({ id }) => id === from);
    if (old === undefined) {
      throw this.#cannot(spec, `${this.#router.nameOf(from)} is no member of it`);
    }
    const role = old.role === "witness" ? "witness" : "replica";
    const there = members.find(({ id }) => id === given.to);
    if (from === given.to) return;
    const run = { spec, signal: options.signal, deadline: performance.now() + moverLimits.totalMs };
    const name = this.#router.nameOf(given.to);
    if (there?.role !== role) {
      if (there !== undefined && there.role !== "learner") {
        throw this.#cannot(spec, `${name} is a ${there.role} of it already`);
      }
      options.onProgress(`taking ${name} in`);
      await this.#step(run, { kind: "add", node: given.to, role });
      options.onProgress(`bringing ${name} up to date`);
      await this.#until(run, (now) => isUpToDate(now, { node: given.to, role }));
      await this.#step(run, { kind: "promote", node: given.to, role });
    }
    if (primaryOf(statuses) === from) {
      options.onProgress(`handing over to ${name}`);
      await this.lead(spec, given.to, options);
      // It was a replica before: nobody is to be dropped, only the primary moved.
      if (there?.role === role) return;
    }
    options.onProgress(`dropping ${this.#router.nameOf(from)}`);
    await this.#step(run, { kind: "remove", node: from });
    await this.#until(run, (now) => membersNow(spec, now).every(({ id }) => id !== from));
    await this.#mesh.node.rpc.call(from, VM_LEAVE, { id: spec.id }).catch(() => {
      // It finds out by itself when it is back.
    });
  }

  /** Makes a replica the primary; resolves when it is live. */
  async lead(spec: VmSpec, to: NodeId, options: Pick<MoveOptions, "signal">): Promise<void> {
    const deadline = performance.now() + moverLimits.totalMs;
    const run = { spec, signal: options.signal, deadline };
    for (;;) {
      await this.#step(run, { kind: "lead", node: to });
      const givenUp = performance.now() + 2_000;
      const done = await this.#until(
        run,
        (now) => primaryOf(now) === to || performance.now() > givenUp,
      );
      if (primaryOf(done) === to) return;
    }
  }

  /** One step at whoever leads, until it is taken. */
  async #step(run: Run, change: GroupChange): Promise<void> {
    for (;;) {
      this.#check(run);
      const leader = leaderOf(await this.#router.statuses(run.spec));
      if (leader !== null) {
        const request = { id: run.spec.id, change };
        const limits = { signal: run.signal, timeoutMs: moverLimits.stepMs };
        try {
          const { rpc } = this.#mesh.node;
          if ((await rpc.call(leader, VM_CHANGE, request, limits)).result === "done") return;
        } catch (error) {
          if (this.#mesh.node.isConnected(leader) || leader === this.#mesh.id) {
            throw this.#cannot(run.spec, oneLine(error));
          }
        }
      }
      await pause(moverLimits.pollMs);
    }
  }

  async #until(run: Run, holds: (statuses: Statuses) => boolean): Promise<Statuses> {
    for (;;) {
      this.#check(run);
      const statuses = await this.#router.statuses(run.spec);
      if (holds(statuses)) return statuses;
      await pause(moverLimits.pollMs);
    }
  }

  #check(run: Run): void {
    if (run.signal.aborted) throw this.#cannot(run.spec, "it was given up");
    if (performance.now() < run.deadline) return;
    throw this.#cannot(run.spec, `it took longer than ${moverLimits.totalMs / 60_000} minutes`);
  }

  #cannot(spec: VmSpec, why: string): UserError {
    return cannot("move VM", spec.name, { why, remedy: `see: node-mesh vm show ${spec.name}` });
  }
}

interface Run {
  readonly spec: VmSpec;
  readonly signal: AbortSignal;
  readonly deadline: number;
}

/** The member that leads in the newest term, if one says so. */
export function leaderOf(statuses: Statuses): NodeId | null {
  let best: { readonly node: NodeId; readonly term: number } | null = null;
  for (const [node, { isLeader, term }] of statuses) {
    if (isLeader && (best === null || term > best.term)) best = { node, term };
  }
  return best?.node ?? null;
}

/** Has a newcomer the log, and a copy that runs along if it is to run one? */
export function isUpToDate(
  statuses: Statuses,
  newcomer: { readonly node: NodeId; readonly role: string },
): boolean {
  const own = statuses.get(newcomer.node);
  const leader = leaderOf(statuses);
  const ahead = leader === null ? undefined : statuses.get(leader);
  if (own === undefined || ahead === undefined) return false;
  const least = ahead.chunkCount - moverLimits.lagChunksMax;
  if (newcomer.role === "witness") return own.chunkCount >= least;
  return own.state === "following" && own.replayedChunks >= least;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
