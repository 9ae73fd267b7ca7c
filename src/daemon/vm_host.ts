/**
 * The VMs that this node is a member of: opened when the node starts, made and forgotten when the
 * mesh says so. Owns the supervisors and their groups. Whether a VM may come here is decided in
 * one place, `admit`.
 */
import { existsSync, readFileSync } from "node:fs";
import { freemem, totalmem } from "node:os";
import type { Group, Mesh, NodeId } from "../../mesh/mod.ts";
import { oneLine } from "../user_error.ts";
import type { CopyStatus } from "../vm/vm_entries.ts";
import type { VmObserver } from "../vm/vm_observer.ts";
import { checkSpec, decodeSpec, encodeSpec, type VmSpec } from "../vm/vm_spec.ts";
import { type SupervisorLog, VmSupervisor } from "../vm/vm_supervisor.ts";
import type { VmmFactory } from "../vm/vmm_process.ts";
import { VM_REPORT } from "./member_rpc.ts";

export const hostLimits = {
  /** VMs of one node, witnesses included. */
  vmsMax: 256,
  /** Part of this machine's memory that guests may be given. */
  memoryShare: 0.8,
  /** Left free for the machine itself, whatever is lent. */
  memoryReserveBytes: 128 * 1024 * 1024,
  /** A name stays reserved for a VM that is being made. */
  reservationMs: 60_000,
  /** A member without a leader for so long asks the others whether the VM is gone. */
  orphanMs: 10_000,
  /** A leader tells its followers of the removal before it forgets the VM itself. */
  removalGraceMs: 3_000,
} as const;

/** What this node is to be in a VM that it joins, by the VM's id. */
const intendedKey = "vm-intended/";

const drainedKey = "drained";

interface Hosted {
  readonly supervisor: VmSupervisor;
  readonly group: Group;
  leaderlessSince: number | null;
}

export interface VmHostOptions {
  readonly mesh: Mesh;
  readonly factory: VmmFactory;
  readonly log: SupervisorLog;
  readonly onChange: () => void;
  readonly observe?: VmObserver;
  /** A VM is no longer held here. */
  readonly onForgotten?: (spec: VmSpec) => void;
}

export class VmHost {
  readonly #mesh: Mesh;
  readonly #options: VmHostOptions;
  readonly #hosted = new Map<string, Hosted>();
  readonly #opening = new Map<string, Promise<void>>();
  readonly #reserved = new Map<string, { readonly id: string; readonly untilMs: number }>();
  #sweep: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(options: VmHostOptions) {
    this.#options = options;
    this.#mesh = options.mesh;
  }

  /** Opens what this node was a member of before it stopped. */
  async start(): Promise<void> {
    for (const info of this.#mesh.groups.list()) {
      try {
        await this.#open(decodeSpec(info.info));
      } catch (error) {
        this.#options.log.warn({ group: info.id, why: oneLine(error) }, "a VM cannot be opened");
      }
    }
    this.#sweep = setInterval(() => this.#findOrphans(), hostLimits.orphanMs / 2);
    this.#sweep.unref();
  }

  /** What is held here; a VM that is being forgotten is not. */
  all(): VmSupervisor[] {
    return [...this.#hosted.values()]
      .map((hosted) => hosted.supervisor)
      .filter((supervisor) => supervisor.state !== "removed");
  }

  byId(id: string): VmSupervisor | null {
    return this.#hosted.get(id)?.supervisor ?? null;
  }

  byName(name: string): VmSupervisor | null {
    return this.all().find((supervisor) => supervisor.spec.name === name) ?? null;
  }

  wasRemoved(id: string): boolean {
    return this.#mesh.groups.isDestroyed(id);
  }

  /** Does this node take VMs in? Not while it is being drained. */
  get takes(): boolean {
    return this.#mesh.storage.meta.get(drainedKey) === undefined;
  }

  /** Remembered: a node that is being drained stays so until it is told otherwise. */
  async setTakes(takes: boolean): Promise<void> {
    await this.#mesh.storage.meta.put(drainedKey, takes ? null : Uint8Array.of(1));
    this.#options.onChange();
  }

  /** Guest memory that this node would still give. */
  memoryFreeBytes(): number {
    const given = this.all()
      .filter((vm) => vm.isReplica && vm.state !== "ended")
      .reduce((sum, vm) => sum + vm.spec.memoryBytes, 0);
    const lent = totalmem() * hostLimits.memoryShare - given;
    return Math.max(0, Math.min(lent, memoryAvailableBytes() - hostLimits.memoryReserveBytes));
  }

  /** True when another VM has the name, or is being made with it. */
  reserve(name: string, id: string): boolean {
    const now = performance.now();
    for (const [key, entry] of this.#reserved) {
      if (entry.untilMs < now) this.#reserved.delete(key);
    }
    const known = this.byName(name);
    if (known !== null && known.spec.id !== id) return true;
    const held = this.#reserved.get(name);
    if (held !== undefined && held.id !== id) return true;
    this.#reserved.set(name, { id, untilMs: now + hostLimits.reservationMs });
    return false;
  }

  release(name: string, id: string): void {
    if (this.#reserved.get(name)?.id === id) this.#reserved.delete(name);
  }

  /** Takes a VM in, or throws the reason why not. The same VM twice is one VM. */
  async create(given: VmSpec, options: { from: NodeId; signal: AbortSignal }): Promise<void> {
    const spec = checkSpec(given);
    if (this.#hosted.has(spec.id)) return;
    const me = spec.members.find((member) => member.id === this.#mesh.id);
    if (me === undefined) throw new Error("it was not asked to be a member");
    this.#admit(spec, me.role);
    await this.#takeIn(spec, { ...options, role: me.role });
  }

  /** Becomes a member of a VM that runs already, or throws the reason why not. */
  async adopt(
    given: VmSpec,
    options: { from: NodeId; role: "replica" | "witness"; signal: AbortSignal },
  ): Promise<void> {
    const spec = checkSpec(given);
    if (this.#hosted.has(spec.id)) return;
    this.#admit(spec, options.role);
    await this.#mesh.storage.meta.put(intendedKey + spec.id, Buffer.from(options.role));
    await this.#takeIn(spec, { ...options, joins: true });
  }

  async #takeIn(
    spec: VmSpec,
    options: {
      readonly from: NodeId;
      readonly role: string;
      readonly signal: AbortSignal;
      readonly joins?: boolean;
    },
  ): Promise<void> {
    const { role, signal, joins } = options;
    if (role === "replica") {
      const from = [options.from, ...spec.members.map((member) => member.id)];
      await this.#fetchImages(spec, { from, signal });
    }
    const { id: groupId, members } = spec;
    const info = encodeSpec(spec);
    await this.#mesh.groups.create({ groupId, members, info, joins: joins ?? false });
    await this.#open(spec);
  }

  /** All members have it: this one, being the first, need not wait for an election's time-out. */
  lead(id: string): void {
    const hosted = this.#hosted.get(id);
    if (hosted?.group.soft.leader === null) hosted.group.campaign();
  }

  /** Forgets a VM for good: its copy, its log, its place in the mesh. */
  async destroy(id: string): Promise<void> {
    const hosted = this.#hosted.get(id);
    this.#hosted.delete(id);
    await hosted?.supervisor.close();
    await this.#mesh.groups.destroy(id);
    this.#dropImages(hosted?.supervisor.spec ?? null);
    if (hosted !== undefined) this.#options.onForgotten?.(hosted.supervisor.spec);
    this.#options.onChange();
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#sweep !== null) clearInterval(this.#sweep);
    await Promise.allSettled(this.#opening.values());
    await Promise.allSettled(
      [...this.#hosted.values()].map(({ supervisor }) => supervisor.close()),
    );
  }

  #admit(spec: VmSpec, role: string): void {
    if (this.wasRemoved(spec.id)) throw new Error("that VM was removed");
    if (!this.takes) throw new Error("it is drained: it takes no VM in");
    if (this.#hosted.size >= hostLimits.vmsMax) throw new Error("it holds as many VMs as it may");
    if (this.reserve(spec.name, spec.id)) throw new Error("it knows another VM of that name");
    if (role === "replica" && this.memoryFreeBytes() < spec.memoryBytes) {
      throw new Error("it has too little free memory");
    }
  }

  #open(spec: VmSpec): Promise<void> {
    const running = this.#opening.get(spec.id);
    if (running !== undefined || this.#hosted.has(spec.id)) return running ?? Promise.resolve();
    const opening = this.#openNow(spec).finally(() => this.#opening.delete(spec.id));
    this.#opening.set(spec.id, opening);
    return opening;
  }

  async #openNow(spec: VmSpec): Promise<void> {
    const stored = this.#mesh.storage.meta.get(intendedKey + spec.id);
    const intended = Buffer.from(stored ?? []).toString();
    const supervisor: VmSupervisor = new VmSupervisor({
      spec,
      self: this.#mesh.id,
      factory: this.#options.factory,
      images: () => this.#fetchImages(spec, { from: supervisor.members.map(({ id }) => id) }),
      ...(intended === "witness" ? { intended } : {}),
      log: this.#options.log,
      onChange: this.#options.onChange,
      onRemoved: () => this.#removed(spec.id),
      now: () => performance.now(),
      ...(this.#options.observe === undefined ? {} : { observe: this.#options.observe }),
    });
    const group = await this.#mesh.groups.open(spec.id, supervisor);
    if (this.#closed) {
      await supervisor.close();
      return;
    }
    this.#hosted.set(spec.id, { supervisor, group, leaderlessSince: null });
    supervisor.start(group);
    this.#options.onChange();
  }

  async #fetchImages(
    spec: VmSpec,
    options: { readonly from: readonly NodeId[]; readonly signal?: AbortSignal },
  ): Promise<{ kernel: string; initrd: string | null }> {
    const from = options.from.filter((id) => id !== this.#mesh.id);
    const signal = options.signal ?? new AbortController().signal;
    const fetch = (hash: string): Promise<string> => this.#mesh.blobs.fetch(hash, { from, signal });
    const kernel = await fetch(spec.kernelSha256);
    const initrd = spec.initrdSha256 === null ? null : await fetch(spec.initrdSha256);
    return { kernel, initrd };
  }

  #dropImages(spec: VmSpec | null): void {
    if (spec === null) return;
    const used = new Set(this.all().flatMap((vm) => [vm.spec.kernelSha256, vm.spec.initrdSha256]));
    for (const hash of [spec.kernelSha256, spec.initrdSha256]) {
      if (hash !== null && !used.has(hash)) void this.#mesh.blobs.remove(hash);
    }
  }

  /** A leader stays a moment: its followers learn from it that the removal is committed. */
  #removed(id: string): void {
    const leads = this.#hosted.get(id)?.group.soft.role === "leader";
    const pauseMs = leads ? hostLimits.removalGraceMs : 0;
    setTimeout(() => {
      if (this.#closed) return;
      this.destroy(id).catch((error: unknown) => {
        this.#options.log.warn({ vm: id, why: oneLine(error) }, "a removed VM leaves traces");
      });
    }, pauseMs).unref();
  }

  /** A member that missed the removal has nobody left to hear it from but by asking. */
  #findOrphans(): void {
    const now = performance.now();
    for (const [id, hosted] of this.#hosted) {
      if (hosted.supervisor.leader !== null) {
        hosted.leaderlessSince = null;
        continue;
      }
      hosted.leaderlessSince ??= now;
      if (now - hosted.leaderlessSince < hostLimits.orphanMs) continue;
      hosted.leaderlessSince = now;
      void this.findOut(id);
    }
  }

  /** Asks the others whether the VM is gone, or goes on without this node. */
  async findOut(id: string): Promise<void> {
    const supervisor = this.byId(id);
    if (supervisor === null) return;
    const asked = new Set([...supervisor.members, ...supervisor.spec.members].map((m) => m.id));
    for (const member of asked) {
      if (member === this.#mesh.id || !this.#mesh.node.isConnected(member)) continue;
      try {
        const signal = AbortSignal.timeout(hostLimits.orphanMs);
        const answer = await this.#mesh.node.rpc.call(member, VM_REPORT, { id }, { signal });
        if (answer.removed) return await this.destroy(id);
        if (answer.reports.some(({ status }) => this.#isLeftOut(supervisor, status))) {
          return await this.#leave(id);
        }
      } catch {
        // It is asked again with the next sweep.
      }
    }
  }

  /** Does a newer membership, which is committed, go without this node? */
  #isLeftOut(supervisor: VmSupervisor, status: CopyStatus): boolean {
    if (status.membersIndex <= supervisor.membersIndex) return false;
    const isCommitted = status.commit >= status.membersIndex;
    return isCommitted && status.members.every((member) => member.id !== this.#mesh.id);
  }

  /** The VM goes on without this node: its copy and its log here are of no more use. */
  async #leave(id: string): Promise<void> {
    const hosted = this.#hosted.get(id);
    if (hosted === undefined) return;
    this.#hosted.delete(id);
    const { spec } = hosted.supervisor;
    this.#options.log.info({ vm: spec.name }, "the VM goes on without this node");
    await hosted.supervisor.close();
    await this.#mesh.groups.leave(id);
    await this.#mesh.storage.meta.put(intendedKey + id, null);
    this.#dropImages(spec);
    this.#options.onForgotten?.(spec);
    this.#options.onChange();
  }
}

/** What Linux thinks can be used without swapping; where there is no /proc, what is free. */
function memoryAvailableBytes(): number {
  if (!existsSync("/proc/meminfo")) return freemem();
  const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"));
  return match?.[1] === undefined ? 0 : Number(match[1]) * 1024;
}
