/**
 * Stand-ins for a group and a monitor, in memory and without time, so that each step of a
 * supervisor's life can be put in any order by a test.
 */
import type {
  Entry,
  Group,
  GroupHandler,
  GroupSeed,
  LogCut,
  Member,
  RoleState,
  SoftState,
} from "../../mesh/mod.ts";
import { crc32c } from "../log/crc32c.ts";
import type { VmSpec } from "./vm_spec.ts";
import type { VmmMessage, VmmStart } from "./vmm_messages.ts";
import type { Vmm, VmmHandlers } from "./vmm_process.ts";

export function fakeSpec(members: readonly Member[]): VmSpec {
  const copies = members.filter((member) => member.role === "replica").length;
  return {
    version: 1,
    id: "0123456789abcdef0123456789abcdef",
    name: "vm",
    owner: "a",
    createdMs: 1,
    engine: "interp",
    memoryBytes: 64 << 20,
    cmdline: "console=ttyS0",
    kernelSha256: "11".repeat(32),
    initrdSha256: null,
    rngSeed: "22".repeat(32),
    startRealtimeMs: 1,
    copies,
    witnesses: members.length - copies,
    members: members.map(({ id, role }) => ({ id, role: role as "replica" | "witness" })),
  };
}

/** A chunk without events, whose number is all that a supervisor looks at. */
export function fakeChunk(number: number): Buffer {
  const body = Buffer.from([2, 0, number, 0, 0, 0, 0, 0, 0, 0, 0]);
  const chunk = Buffer.alloc(body.length + 4);
  body.copy(chunk);
  chunk.writeUInt32LE(crc32c(body), body.length);
  return chunk;
}

export class FakeGroup implements Group {
  readonly id = "group";
  members: readonly Member[];
  membersIndex = 0;
  base: LogCut | null = null;
  readonly info = new Uint8Array();
  readonly log: Entry[] = [];
  readonly transfers: string[] = [];
  soft: SoftState;
  handler: GroupHandler | null = null;
  redelivered = 0;
  accepting = true;

  constructor(members: readonly Member[]) {
    this.members = members;
    this.soft = {
      role: "follower",
      leader: null,
      term: 1,
      commit: 0,
      lastIndex: 0,
      needsSeed: false,
    } as unknown as SoftState;
  }

  propose(data: Uint8Array): { index: number; term: number } | null {
    if (this.soft.role !== "leader" || !this.accepting) return null;
    const entry: Entry = { index: this.log.length + 1, term: this.soft.term, kind: "data", data };
    this.log.push(entry);
    return { index: entry.index, term: entry.term };
  }

  /** Commits all entries of the log up to `index` and delivers the new ones. */
  async commit(index = this.log.length): Promise<void> {
    const fresh = this.log.slice(this.soft.commit, index);
    this.soft = { ...this.soft, commit: index };
    await this.handler?.onCommitted(fresh);
  }

  role(role: SoftState["role"], options: { term: number; leader?: string; ready?: boolean }): void {
    this.soft = { ...this.soft, role, term: options.term, leader: options.leader ?? null };
    const state = { ...this.soft, readyToLead: options.ready ?? false } as RoleState;
    this.handler?.onRole(state);
  }

  async lead(term: number): Promise<void> {
    this.role("leader", { term });
    this.log.push({ index: this.log.length + 1, term, kind: "noop", data: new Uint8Array() });
    await this.commit();
    this.role("leader", { term, ready: true });
  }

  redeliver(): void {
    this.redelivered += 1;
  }

  async deliverAgain(): Promise<void> {
    await this.handler?.onCommitted(this.log.slice(0, this.soft.commit));
  }

  transferLeadership(to: string): boolean {
    this.transfers.push(to);
    return true;
  }

  status(): ReturnType<Group["status"]> {
    return {
      ...this.soft,
      delivered: this.soft.commit,
      failed: null,
      commitLatencyMs: { p50: 1, p99: 2, count: 1 },
      followers: this.members.slice(1).map(({ id }) => ({
        id,
        match: 1,
        lagEntries: 0,
        active: true,
      })),
    } as unknown as ReturnType<Group["status"]>;
  }

  changeMembers(members: readonly Member[]): { index: number; term: number } | null {
    if (this.soft.role !== "leader") return null;
    this.members = members;
    this.membersIndex = this.log.length + 1;
    const { term } = this.soft;
    this.log.push({ index: this.membersIndex, term, kind: "config", data: new Uint8Array() });
    return { index: this.membersIndex, term };
  }

  async cut(index: number, checkpoint: string): Promise<boolean> {
    this.base = { index, term: 1, checkpoint };
    return true;
  }

  seedAt(index: number): GroupSeed | null {
    return { index, term: 1, members: this.members };
  }

  async close(): Promise<void> {}
  async leave(): Promise<void> {}
  async destroy(): Promise<void> {}
  campaign(): void {}
}

export class FakeVmm implements Vmm {
  readonly pid = 4242;
  readonly handlers: VmmHandlers;
  readonly chunks: Buffer[] = [];
  readonly sent: Readonly<Record<string, unknown>>[] = [];
  killed = false;
  startError: Error | null = null;

  constructor(handlers: VmmHandlers) {
    this.handlers = handlers;
  }

  async start(_start: VmmStart): Promise<VmmMessage & { kind: "ready" }> {
    if (this.startError !== null) throw this.startError;
    return { kind: "ready", engine: "interp" };
  }

  async sendChunk(chunk: Uint8Array): Promise<void> {
    this.chunks.push(Buffer.from(chunk));
  }

  send(message: Readonly<Record<string, unknown>>): void {
    this.sent.push(message);
  }

  pauseReading(): void {}
  resumeReading(): void {}

  async kill(): Promise<void> {
    this.killed = true;
  }

  live(chunk: number): void {
    this.handlers.onMessage({ kind: "live", steps: 0, chunk });
  }

  say(offset: number, text: string): void {
    this.handlers.onOutput({ offset, bytes: Buffer.from(text) });
  }
}
