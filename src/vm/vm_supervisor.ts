/**
 * One member of a VM on this node: ties the VM's group to its copy. As follower it feeds the
 * committed log to the copy; as leader that has handled everything before its term it lets the copy
 * go live and proposes what it records. A copy that ran ahead under a leadership that is gone is
 * killed and built anew from the log: nothing it said beyond the committed log was ever shown.
 * A witness keeps the log and runs nothing.
 */
import type { Entry, Group, GroupHandler, Member, MemberRole, RoleState } from "../../mesh/mod.ts";
import { decodeChunkHead } from "../log/log_schema.ts";
import { ConsoleHub } from "./console_hub.ts";
import { FrameHub } from "./frame_hub.ts";
import { InputLedger } from "./input_ledger.ts";
import { type CopyEnd, type CopyPhase, VmCopy } from "./vm_copy.ts";
import { type CopyStatus, decodeEntry, encodeEntry, type VmState } from "./vm_entries.ts";
import type { VmObserver } from "./vm_observer.ts";
import { machineConfig, type VmSpec } from "./vm_spec.ts";
import type { VmmFactory } from "./vmm_process.ts";

export const supervisorLimits = {
  /** Recorded bytes waiting to be proposed; beyond it the monitor's socket is left unread. */
  proposalBytesMax: 4 * 1024 * 1024,
  /** Between two tries of a proposal that the group could not take yet. */
  proposalRetryMs: 5,
  /** A copy that failed is built again after a pause that doubles from the first to the last. */
  rebuildFirstMs: 200,
  rebuildMaxMs: 30_000,
  /** A copy that ran this long clears what failed before it. */
  stableMs: 60_000,
} as const;

/** This node is not where that can be done now; `leader` is a hint where it is. */
export class NotPrimaryError extends Error {
  override name = "NotPrimaryError";
}

export interface SupervisorLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface SupervisorOptions {
  readonly spec: VmSpec;
  readonly self: string;
  readonly factory: VmmFactory;
  /** Brings the images to this node and says where they are. */
  readonly images: () => Promise<{ readonly kernel: string; readonly initrd: string | null }>;
  readonly log: SupervisorLog;
  /** Something that others are told about has changed. */
  readonly onChange: () => void;
  /** The group decided that the VM is no more. */
  readonly onRemoved: () => void;
  /** What this node is to be once it has caught up, while it is a learner. */
  readonly intended?: "replica" | "witness";
  /** Monotonic milliseconds. */
  readonly now: () => number;
  readonly observe?: VmObserver;
}

export class VmSupervisor implements GroupHandler {
  readonly spec: VmSpec;
  readonly hub = new ConsoleHub();
  /** Committed Ethernet frames of the guest, by number. */
  readonly frames = new FrameHub();
  readonly #options: SupervisorOptions;
  readonly #ledger = new InputLedger();
  #group: Group | null = null;
  #role: RoleState | null = null;
  #copy: VmCopy | null = null;
  /** Rises with each copy, so that what belongs to an older one is told apart. */
  #epoch = 0;
  /** Raft index of the newest entry handled for this copy. */
  #cursor = 0;
  #chunkCount = 0;
  #logBytes = 0;
  #liveTerm = 0;
  #lastProposed = { index: 0, term: 0 };
  #queue: Uint8Array[] = [];
  #queueBytes = 0;
  #retry: NodeJS.Timeout | null = null;
  #rebuildTimer: NodeJS.Timeout | null = null;
  #failureCount = 0;
  #failure: string | null = null;
  #copySince = 0;
  #leaderSince: number | null = null;
  #switchMs: number | null = null;
  #liveCount = 0;
  #strangeEntryCount = 0;
  #end: CopyEnd | null = null;
  #removed = false;
  #closed = false;
  readonly #stop = new AbortController();

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.spec = options.spec;
  }

  /** Called once, with the group that this is the handler of. */
  start(group: Group): void {
    this.#group = group;
    if (this.#copy === null) this.#build();
  }

  /** The members in force, as this node's log has them. */
  get members(): readonly Member[] {
    return this.#group?.members ?? this.spec.members;
  }

  /** Index of the log entry that put them in force: of two answers the newer one counts. */
  get membersIndex(): number {
    return this.#group?.membersIndex ?? 0;
  }

  /** This node's own role; a learner that is not known to the log yet is one already. */
  get role(): MemberRole {
    return this.members.find(({ id }) => id === this.#options.self)?.role ?? "learner";
  }

  /** Does this node run a copy? A learner does, unless it is to be a witness. */
  get isReplica(): boolean {
    const { role } = this;
    return role === "replica" || (role === "learner" && this.#options.intended !== "witness");
  }

  get state(): VmState {
    if (this.#removed) return "removed";
    if (!this.isReplica) return "witness";
    if (this.#end !== null) return "ended";
    const phase = this.#copy?.phase ?? "dead";
    if (phase === "dead") return this.#failure === null ? "starting" : "failed";
    return phase;
  }

  /** Does this node lead the group at this moment? */
  get leads(): boolean {
    return this.#group?.soft.role === "leader";
  }

  /** Are the members in force committed? */
  get isSettled(): boolean {
    return this.#group !== null && this.#group.membersIndex <= this.#group.soft.commit;
  }

  get leader(): string | null {
    return this.#role?.leader ?? null;
  }

  async onCommitted(entries: readonly Entry[]): Promise<void> {
    if (this.#copy === null && this.isReplica && this.#epoch === 0) this.#build();
    const epoch = this.#epoch;
    for (const entry of entries) {
      // The rest of a delivery that was for an older copy.
      if (entry.index !== this.#cursor + 1) continue;
      if (entry.kind === "data") await this.#handle(entry.data);
      if (epoch !== this.#epoch || this.#closed) return;
      this.#cursor = entry.index;
    }
    this.#consider();
  }

  onRole(role: RoleState): void {
    const before = this.#role;
    this.#role = role;
    if (role.role === "leader" && before?.role !== "leader") {
      this.#leaderSince = this.#options.now();
    }
    const { leader, term } = role;
    this.#options.observe?.(this.spec, {
      kind: "role",
      leads: role.role === "leader",
      leader,
      term,
    });
    const phase = this.#copy?.phase;
    const ahead = phase === "live" || phase === "going_live";
    if (ahead && (role.role !== "leader" || role.term !== this.#liveTerm)) {
      this.#rebuild(`leadership of term ${this.#liveTerm} is lost`);
    } else if (role.role === "leader" && this.state === "failed") {
      this.#handOver();
    }
    this.#consider();
    if (before?.role !== role.role || before.term !== role.term || before.leader !== role.leader) {
      this.#options.onChange();
    }
  }

  onCommitLatency(ms: number): void {
    this.#options.observe?.(this.spec, { kind: "commit", ms });
  }

  onError(error: Error): void {
    this.#failure = error.message;
    this.#options.log.warn({ vm: this.spec.name, why: error.message }, "the log cannot be kept");
    this.#dropCopy();
    this.#options.onChange();
  }

  /** Console input: resolves when it is committed, and so is applied exactly once. */
  async input(
    message: { readonly source: number; readonly seq: number; readonly data: Uint8Array },
    options: { readonly signal: AbortSignal },
  ): Promise<void> {
    if (this.#ledger.isCommitted(message.source, message.seq)) return;
    this.#livingCopy().input(message);
    await this.#ledger.wait(message.source, { seq: message.seq, signal: options.signal });
  }

  /**
   * An Ethernet frame for the guest; resolves to whether it took it, which it does at most once for
   * a number of a source. Frames have sources of their own, apart from those of console input.
   */
  async sendFrame(frame: {
    readonly source: number;
    readonly seq: number;
    readonly data: Uint8Array;
  }): Promise<boolean> {
    return await this.#livingCopy().sendFrame(frame);
  }

  /** Asks the guest to switch itself off. Recorded; what it does about it is its own affair. */
  pressPowerButton(): void {
    this.#livingCopy().pressPowerButton();
  }

  /** Takes the power away: recorded, and so every copy ends. */
  stopGuest(): void {
    this.#livingCopy().stopGuest();
  }

  /**
   * Proposes one step of the membership, or does nothing if it is so already. False: not now; this
   * node does not lead, or the step before is not committed yet.
   */
  changeMember(id: string, role: MemberRole | null): boolean {
    const group = this.#group;
    if (group === null || group.soft.role !== "leader") return false;
    const known = group.members.find((member) => member.id === id)?.role ?? null;
    if (known === role) return group.membersIndex <= group.soft.commit;
    const others = group.members.filter((member) => member.id !== id);
    return group.changeMembers(role === null ? others : [...others, { id, role }]) !== null;
  }

  /** Hands the primary over to another replica; false when this node can't. */
  handOverTo(id: string): boolean {
    return this.#group?.transferLeadership(id) ?? false;
  }

  /** Asks the group to forget the VM. True when it was proposed. */
  proposeRemoval(): boolean {
    return this.#group?.propose(encodeEntry({ kind: "remove" })) != null;
  }

  status(): CopyStatus {
    const group = this.#group?.status() ?? null;
    const progress = this.#copy?.progress;
    return {
      role: this.role,
      members: this.members.map(({ id, role }) => ({ id, role })),
      membersIndex: this.membersIndex,
      state: this.state,
      leader: this.leader,
      term: this.#role?.term ?? 0,
      isLeader: this.#role?.role === "leader",
      commit: this.#group?.soft.commit ?? 0,
      chunkCount: this.#chunkCount,
      logBytes: this.#logBytes,
      consoleStart: this.hub.start,
      consoleEnd: this.hub.end,
      consoleMismatches: this.hub.mismatches,
      strangeEntries: this.#strangeEntryCount,
      engine: this.#copy?.engine ?? null,
      pid: this.#copy?.pid ?? null,
      steps: String(progress?.steps ?? 0),
      guestNs: String(progress?.guestNs ?? 0),
      replayedChunks: progress?.chunkCount ?? 0,
      idle: progress?.idle ?? false,
      outputDelayMs: progress?.outputDelayMs ?? null,
      liveCount: this.#liveCount,
      switchMs: this.#switchMs,
      endReason: this.#end?.reason ?? null,
      endReport: this.#end?.report ?? null,
      failure: this.#failure,
      commitLatencyMs: group?.commitLatencyMs ?? null,
      followers: (group?.followers ?? []).map((follower) => ({ ...follower })),
    };
  }

  /** Ends the copy; the group is its owner's to close. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stop.abort();
    if (this.#rebuildTimer !== null) clearTimeout(this.#rebuildTimer);
    const copy = this.#copy;
    this.#dropCopy();
    await copy?.kill();
  }

  async #handle(data: Uint8Array): Promise<void> {
    const entry = decodeEntry(data);
    if (entry?.kind === "remove") {
      this.#removed = true;
      this.#dropCopy();
      this.hub.close();
      this.frames.close();
      this.#options.onRemoved();
      return;
    }
    if (entry?.kind !== "chunk" || !this.#isNext(entry.chunk)) {
      this.#strangeEntryCount += 1;
      return;
    }
    this.#chunkCount += 1;
    this.#logBytes += entry.chunk.length;
    const copy = this.#copy;
    if (copy === null) return;
    await copy.built;
    await copy.committed(entry.chunk);
  }

  /** All members read the same entries, so all leave out the same ones. */
  #isNext(chunk: Uint8Array): boolean {
    try {
      return decodeChunkHead(chunk).number === this.#chunkCount;
    } catch {
      return false;
    }
  }

  /** Goes live when this node leads and the copy was given all that may ever be committed. */
  #consider(): void {
    const role = this.#role;
    if (role === null || role.role !== "leader" || !role.readyToLead || this.#removed) return;
    // A leader that was taken out of the membership may lead for a moment, and must not run.
    if (this.role !== "replica") return;
    if (this.#copy?.phase !== "following") return;
    const commit = Math.max(role.commit, this.#group?.soft.commit ?? 0);
    if (this.#cursor < commit) return;
    // A copy before this one, under the same leadership, may have left chunks that will commit.
    if (this.#lastProposed.term === role.term && this.#cursor < this.#lastProposed.index) return;
    this.#liveTerm = role.term;
    this.#copy.goLive();
  }

  #livingCopy(): VmCopy {
    if (this.#end !== null) throw new RangeError("the VM has ended");
    if (this.#copy?.phase !== "live") throw new NotPrimaryError("this node is not the primary");
    return this.#copy;
  }

  #build(): void {
    if (!this.isReplica || this.#closed || this.#removed || this.#end !== null) return;
    this.#epoch += 1;
    const epoch = this.#epoch;
    const current = (then: () => void): void => {
      if (epoch === this.#epoch && !this.#closed) then();
    };
    this.#copySince = this.#options.now();
    this.#copy = new VmCopy(this.#startMessage(), {
      factory: this.#options.factory,
      hub: this.hub,
      frames: this.frames,
      ledger: this.#ledger,
      events: {
        onRecorded: (chunk) => current(() => this.#recorded(chunk)),
        onPhase: (phase) => current(() => this.#phase(phase)),
        onDead: (why) => current(() => this.#died(why)),
      },
    });
  }

  async #startMessage() {
    const images = await this.#options.images();
    return { config: machineConfig(this.spec), ...images, engine: this.spec.engine };
  }

  #phase(phase: CopyPhase): void {
    const { log, now, observe, onChange } = this.#options;
    observe?.(this.spec, { kind: "phase", phase, chunkCount: this.#chunkCount });
    if (phase === "live") {
      void this.#reportOutput();
      this.#liveCount += 1;
      this.#failure = null;
      this.#switchMs = this.#leaderSince === null ? null : now() - this.#leaderSince;
    }
    if (phase === "ended") this.#end = this.#copy?.end ?? null;
    if (phase === "following") this.#failure = null;
    log.info({ vm: this.spec.name, term: this.#role?.term, chunks: this.#chunkCount }, phase);
    onChange();
    if (phase === "following") queueMicrotask(() => this.#consider());
  }

  async #reportOutput(): Promise<void> {
    const { signal } = this.#stop;
    const { end } = this.hub;
    await this.hub.readWaiting(end, { signal });
    if (this.hub.end > end) this.#options.observe?.(this.spec, { kind: "output" });
  }

  #recorded(chunk: Buffer): void {
    const entry = encodeEntry({ kind: "chunk", chunk });
    this.#queue.push(entry);
    this.#queueBytes += entry.length;
    if (this.#queueBytes > supervisorLimits.proposalBytesMax) this.#copy?.pauseReading();
    this.#propose();
  }

  /**
   * The group's own state is looked at in the same turn as the proposal: a leadership that was lost
   * and won again in between must not get chunks that were recorded under the old one.
   */
  #propose(): void {
    const group = this.#group;
    while (group !== null && this.#queue.length > 0) {
      const { role, term } = group.soft;
      if (role !== "leader" || term !== this.#liveTerm) {
        this.#rebuild(`leadership of term ${this.#liveTerm} is lost`);
        return;
      }
      const entry = this.#queue[0] as Uint8Array;
      const proposed = group.propose(entry);
      if (proposed === null) {
        this.#retry ??= setTimeout(() => {
          this.#retry = null;
          this.#propose();
        }, supervisorLimits.proposalRetryMs);
        return;
      }
      this.#lastProposed = proposed;
      this.#queue.shift();
      this.#queueBytes -= entry.length;
    }
    this.#copy?.resumeReading();
  }

  #died(why: string): void {
    const { log, now, onChange } = this.#options;
    if (now() - this.#copySince > supervisorLimits.stableMs) this.#failureCount = 0;
    const { rebuildFirstMs, rebuildMaxMs } = supervisorLimits;
    const pauseMs = Math.min(rebuildFirstMs * 2 ** this.#failureCount, rebuildMaxMs);
    this.#failureCount += 1;
    this.#failure = why;
    log.warn({ vm: this.spec.name, why, pauseMs }, "the copy failed and is built again");
    this.#dropCopy();
    this.#handOver();
    this.#rebuildTimer = setTimeout(() => this.#rebuild("it failed"), pauseMs).unref();
    onChange();
  }

  /** A leader without a copy lets another replica lead, if one follows. */
  #handOver(): void {
    if (this.#role?.role !== "leader") return;
    const replicas = new Set(
      this.members.filter((member) => member.role === "replica").map((member) => member.id),
    );
    const best = (this.#group?.status().followers ?? [])
      .filter((follower) => follower.active && replicas.has(follower.id))
      .sort((a, b) => b.match - a.match)[0];
    if (best !== undefined) this.#group?.transferLeadership(best.id);
  }

  #dropCopy(): void {
    const copy = this.#copy;
    this.#copy = null;
    this.#epoch += 1;
    this.#queue = [];
    this.#queueBytes = 0;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
    this.#ledger.reset(new NotPrimaryError("this node is no longer the primary"));
    void copy?.kill();
  }

  /** Makes a new copy and reads the whole log for it. */
  #rebuild(why: string): void {
    if (this.#closed || this.#removed || this.#end !== null) return;
    this.#options.log.info({ vm: this.spec.name, why }, "the copy is built from the log");
    if (this.#rebuildTimer !== null) clearTimeout(this.#rebuildTimer);
    this.#rebuildTimer = null;
    this.#dropCopy();
    this.#cursor = 0;
    this.#chunkCount = 0;
    this.#logBytes = 0;
    this.#build();
    this.#group?.redeliver();
    this.#options.onChange();
  }
}
