/**
 * Keeps each VM at the number of copies and witnesses that was asked for. Where this node leads a
 * VM it replaces members that stay away, finishes what a mover left half done, and drops what is
 * too much; where this node is being drained it moves its members elsewhere. It takes one step at
 * a time and looks again: what is so is in the group's log, so any leader can go on from there.
 */
import type { Member, Mesh, NodeId } from "../../mesh/mod.ts";
import { oneLine } from "../user_error.ts";
import { type Candidate, place } from "../vm/placement.ts";
import type { SupervisorLog, VmSupervisor } from "../vm/vm_supervisor.ts";
import { candidatesOf, domainsOf } from "./candidates.ts";
import { GroupChanger } from "./group_changer.ts";
import { type GroupChange, VM_LEAVE } from "./member_rpc.ts";
import type { VmHost } from "./vm_host.ts";
import { isUpToDate, type VmMover } from "./vm_mover.ts";
import type { VmRouter } from "./vm_router.ts";

export const caretakerLimits = {
  lookEveryMs: 1_000,
  /** A member that is away this long is replaced, unless the node was told another time. */
  replaceAfterMs: 30_000,
  /** A member too many is left alone this long: somebody may be moving one. */
  surplusMs: 60_000,
  /** After a step that failed: nobody is there to be asked, or everybody refused. */
  retryMs: 5_000,
} as const;

const voterRoles = ["replica", "witness"] as const;
type VoterRole = (typeof voterRoles)[number];

export interface CaretakerParts {
  readonly mesh: Mesh;
  readonly host: VmHost;
  readonly router: VmRouter;
  readonly mover: VmMover;
  readonly log: SupervisorLog;
  readonly replaceAfterMs?: number;
}

export class Caretaker {
  readonly #parts: CaretakerParts;
  readonly #changer: GroupChanger;
  readonly #replaceAfterMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly #stop = new AbortController();
  /** VMs that something is being done for. */
  readonly #busy = new Map<string, Promise<void>>();
  readonly #notBefore = new Map<string, number>();
  /** Since when a node has not been heard of. */
  readonly #awaySince = new Map<NodeId, number>();
  /** Since when a VM has a member too many. */
  readonly #surplusSince = new Map<string, number>();

  constructor(parts: CaretakerParts) {
    this.#parts = parts;
    this.#changer = new GroupChanger(parts.mesh);
    this.#replaceAfterMs = parts.replaceAfterMs ?? caretakerLimits.replaceAfterMs;
    this.#timer = setInterval(() => this.#look(), caretakerLimits.lookEveryMs).unref();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort();
    await Promise.allSettled(this.#busy.values());
  }

  #look(): void {
    const vms = this.#parts.host.all();
    this.#noteAway(vms);
    const now = performance.now();
    for (const vm of vms) {
      const { id } = vm.spec;
      if (this.#busy.has(id) || (this.#notBefore.get(id) ?? 0) > now) continue;
      const work = this.#care(vm)
        .catch((error: unknown) => {
          if (this.#stop.signal.aborted) return;
          this.#notBefore.set(id, performance.now() + caretakerLimits.retryMs);
          this.#parts.log.warn({ vm: vm.spec.name, why: oneLine(error) }, "its members stay");
        })
        .finally(() => this.#busy.delete(id));
      this.#busy.set(id, work);
    }
    const held = new Set(vms.map((vm) => vm.spec.id));
    for (const map of [this.#notBefore, this.#surplusSince]) {
      for (const id of map.keys()) if (!held.has(id)) map.delete(id);
    }
  }

  #noteAway(vms: readonly VmSupervisor[]): void {
    const { mesh } = this.#parts;
    const members = new Set(vms.flatMap((vm) => vm.members.map(({ id }) => id)));
    for (const id of members) {
      if (id === mesh.id || mesh.node.isConnected(id)) this.#awaySince.delete(id);
      else if (!this.#awaySince.has(id)) this.#awaySince.set(id, performance.now());
    }
    for (const id of this.#awaySince.keys()) if (!members.has(id)) this.#awaySince.delete(id);
  }

  #isGone(id: NodeId): boolean {
    if (!this.#parts.mesh.gate.isMember(id)) return true;
    const since = this.#awaySince.get(id);
    return since !== undefined && performance.now() - since > this.#replaceAfterMs;
  }

  async #care(vm: VmSupervisor): Promise<void> {
    const { mesh, host } = this.#parts;
    if (vm.state === "ended" || vm.state === "removed") return;
    const isMember = vm.members.some(({ id }) => id === mesh.id);
    if (!host.takes && isMember) await this.#moveAway(vm);
    // A change that is not committed may still be undone; a witness that leads is about to stop.
    else if (vm.leads && vm.isSettled && vm.role === "replica") await this.#mend(vm);
  }

  async #moveAway(vm: VmSupervisor): Promise<void> {
    const { mesh, mover } = this.#parts;
    const { role } = vm;
    if (role === "learner") return;
    const [to] = this.#candidatesFor(vm, role);
    if (to === undefined) throw new Error("no other node can take it");
    const onProgress = (): void => {};
    const options = { signal: this.#stop.signal, onProgress };
    await mover.move(vm.spec, { to: to.id, from: mesh.id }, options);
  }

  async #mend(vm: VmSupervisor): Promise<void> {
    const learner = vm.members.find(({ role }) => role === "learner");
    if (learner !== undefined) {
      await this.#mendLearner(vm, learner);
      return;
    }
    for (const role of voterRoles) {
      if (this.#present(vm, role).length < wanted(vm, role)) {
        await this.#recruit(vm, role);
        return;
      }
    }
    for (const role of voterRoles) {
      const victim = this.#surplus(vm, role);
      if (victim === null) continue;
      await this.#drop(vm, victim);
      return;
    }
  }

  #present(vm: VmSupervisor, role: VoterRole): readonly Member[] {
    return vm.members.filter((member) => member.role === role && !this.#isGone(member.id));
  }

  /** One that is to become a member, or was and nobody wants it any more. */
  async #mendLearner(vm: VmSupervisor, { id }: Member): Promise<void> {
    if (this.#isGone(id)) return await this.#drop(vm, id);
    const statuses = await this.#parts.router.statuses(vm.spec);
    const own = statuses.get(id);
    if (own === undefined) return;
    const role: VoterRole = own.state === "witness" ? "witness" : "replica";
    if (this.#present(vm, role).length >= wanted(vm, role)) {
      if (this.#isOld(vm)) await this.#drop(vm, id);
      return;
    }
    this.#surplusSince.delete(vm.spec.id);
    if (!isUpToDate(statuses, { node: id, role })) return;
    await this.#change(vm, { kind: "promote", node: id, role });
  }

  async #recruit(vm: VmSupervisor, role: VoterRole): Promise<void> {
    this.#surplusSince.delete(vm.spec.id);
    const refusals: string[] = [];
    for (const { id, name } of this.#candidatesFor(vm, role)) {
      try {
        await this.#change(vm, { kind: "add", node: id, role });
        return;
      } catch (error) {
        refusals.push(`${name}: ${oneLine(error)}`);
      }
    }
    const said = refusals.length === 0 ? "" : ` (${refusals.join(", ")})`;
    throw new Error(`it lacks a ${role}, and no other node can take it${said}`);
  }

  /** Who has to go: one that is gone at once, any other one only after a while. */
  #surplus(vm: VmSupervisor, role: VoterRole): NodeId | null {
    const all = vm.members.filter((member) => member.role === role);
    if (all.length <= wanted(vm, role)) return null;
    const gone = all.find(({ id }) => this.#isGone(id));
    if (gone !== undefined) return gone.id;
    if (!this.#isOld(vm)) return null;
    return all.map(({ id }) => id).findLast((id) => id !== this.#parts.mesh.id) ?? null;
  }

  #isOld(vm: VmSupervisor): boolean {
    const now = performance.now();
    const since = this.#surplusSince.get(vm.spec.id) ?? now;
    this.#surplusSince.set(vm.spec.id, since);
    return now - since > caretakerLimits.surplusMs;
  }

  async #drop(vm: VmSupervisor, id: NodeId): Promise<void> {
    await this.#change(vm, { kind: "remove", node: id });
    this.#surplusSince.delete(vm.spec.id);
    const { node } = this.#parts.mesh;
    if (!node.isConnected(id)) return;
    // It asks the others when it hears nothing more; this only saves it the wait.
    await node.rpc.call(id, VM_LEAVE, { id: vm.spec.id }).catch(() => {});
  }

  async #change(vm: VmSupervisor, change: GroupChange): Promise<void> {
    const { log, router } = this.#parts;
    const result = await this.#changer.change(vm, change, { signal: this.#stop.signal });
    if (result !== "done") return;
    const node = router.nameOf(change.node);
    log.info({ vm: vm.spec.name, node, change: change.kind }, "its members change");
  }

  /** Who may take a role of the VM, in the order in which to ask. */
  #candidatesFor(vm: VmSupervisor, role: VoterRole): readonly Candidate[] {
    const { mesh, host } = this.#parts;
    const members = new Set(vm.members.map(({ id }) => id));
    const candidates = candidatesOf(mesh, host).filter(({ id }) => !members.has(id));
    const { id: vmId, memoryBytes } = vm.spec;
    const domains = domainsOf(mesh);
    const usedDomains = vm.members
      .filter(({ id }) => !this.#isGone(id))
      .map(({ id }) => domains.get(id) ?? id);
    const wish = { vmId, memoryBytes, copies: 1, witnesses: 1, usedDomains };
    const placement = place(wish, candidates);
    return role === "replica" ? placement.replicas : placement.witnesses;
  }
}

function wanted(vm: VmSupervisor, role: VoterRole): number {
  return role === "replica" ? vm.spec.copies : vm.spec.witnesses;
}
