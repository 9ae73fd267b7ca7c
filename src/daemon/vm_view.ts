/**
 * What users see of a VM, put together from what its members report. A pure function of the
 * reports: nothing here asks anyone. Field names are those of the local API's JSON.
 */
import { type Static, Type } from "@sinclair/typebox";
import type { Member } from "../../mesh/mod.ts";
import { type CopyStatus, vmStates } from "../vm/vm_entries.ts";
import type { VmSpec } from "../vm/vm_spec.ts";

export const vmConditions = [
  "running",
  "starting",
  "switching",
  "ended",
  "failed",
  "unreachable",
] as const;
export type VmCondition = (typeof vmConditions)[number];

const text = Type.String();
const count = Type.Integer({ minimum: 0 });
const maybe = <T extends ReturnType<typeof Type.String> | ReturnType<typeof Type.Number>>(s: T) =>
  Type.Union([s, Type.Null()]);

export const MemberViewSchema = Type.Object({
  node: text,
  name: text,
  role: text,
  connected: Type.Boolean(),
  state: Type.Union([...vmStates.map((s) => Type.Literal(s)), Type.Literal("unreachable")]),
  leader: Type.Boolean(),
  term: count,
  chunks: count,
  replayed_chunks: count,
  console_bytes: count,
  engine: maybe(text),
  pid: maybe(Type.Number()),
  failure: maybe(text),
});

export const VmViewSchema = Type.Object({
  id: text,
  name: text,
  state: Type.Union(vmConditions.map((condition) => Type.Literal(condition))),
  primary: maybe(text),
  primary_name: maybe(text),
  term: count,
  memory_bytes: count,
  cmdline: text,
  kernel_sha256: text,
  initrd_sha256: maybe(text),
  copies: count,
  witnesses: count,
  copies_ready: count,
  created_ms: count,
  owner: text,
  engine: maybe(text),
  chunks: count,
  log_bytes: count,
  console_bytes: count,
  guest_ns: text,
  steps: text,
  switch_ms: maybe(Type.Number()),
  commit_latency_ms: maybe(Type.Number()),
  /** From the first byte that the guest says until it has left, at the median. */
  output_delay_ms: maybe(Type.Number()),
  end_reason: maybe(text),
  end_report: maybe(text),
  members: Type.Array(MemberViewSchema),
});

export type MemberView = Static<typeof MemberViewSchema>;
export type VmView = Static<typeof VmViewSchema>;

export interface ViewContext {
  /** By member; a member that did not answer is missing. */
  readonly statuses: ReadonlyMap<string, CopyStatus>;
  readonly nameOf: (node: string) => string;
  readonly isConnected: (node: string) => boolean;
}

/** What decides the state of a VM; announcements have this much. */
export type StatusHint = Pick<CopyStatus, "role" | "state" | "term" | "chunkCount">;

/** The member that is live in the newest term, if one says so. */
export function primaryOf(statuses: ReadonlyMap<string, StatusHint>): string | null {
  let best: { readonly node: string; readonly term: number } | null = null;
  for (const [node, status] of statuses) {
    if (status.state === "live" && (best === null || status.term > best.term)) {
      best = { node, term: status.term };
    }
  }
  return best?.node ?? null;
}

/** The member whose copy knows most of the console. */
export function mostAdvanced(statuses: ReadonlyMap<string, CopyStatus>): CopyStatus | null {
  let best: CopyStatus | null = null;
  for (const status of statuses.values()) {
    if (best === null || rank(status) > rank(best)) best = status;
  }
  return best;
}

function rank(status: CopyStatus): number {
  return status.consoleEnd + status.chunkCount;
}

export function condition(statuses: ReadonlyMap<string, StatusHint>): VmCondition {
  const replicas = [...statuses.values()].filter((status) => status.role === "replica");
  const states = new Set(replicas.map((status) => status.state));
  if (states.has("ended")) return "ended";
  if (states.has("live")) return "running";
  if (replicas.length === 0) return "unreachable";
  if (states.size === 1 && states.has("failed")) return "failed";
  return replicas.some((status) => status.chunkCount > 0) ? "switching" : "starting";
}

/** The members as the one that knows most has them; without an answer those of the beginning. */
export function membersNow(
  spec: VmSpec,
  statuses: ReadonlyMap<string, CopyStatus>,
): readonly Member[] {
  let newest: CopyStatus | null = null;
  for (const status of statuses.values()) {
    if (newest === null || status.membersIndex > newest.membersIndex) newest = status;
  }
  return newest === null || newest.members.length === 0 ? spec.members : newest.members;
}

export function viewVm(spec: VmSpec, context: ViewContext): VmView {
  const { statuses, nameOf } = context;
  const primary = primaryOf(statuses);
  const leading = primary === null ? mostAdvanced(statuses) : (statuses.get(primary) ?? null);
  const ready = ["live", "following", "going_live", "ended"];
  return {
    id: spec.id,
    name: spec.name,
    state: condition(statuses),
    primary,
    primary_name: primary === null ? null : nameOf(primary),
    term: Math.max(0, ...[...statuses.values()].map((status) => status.term)),
    memory_bytes: spec.memoryBytes,
    cmdline: spec.cmdline,
    kernel_sha256: spec.kernelSha256,
    initrd_sha256: spec.initrdSha256,
    copies: spec.copies,
    witnesses: spec.witnesses,
    copies_ready: [...statuses.values()].filter((status) => ready.includes(status.state)).length,
    created_ms: spec.createdMs,
    owner: spec.owner,
    engine: leading?.engine ?? null,
    chunks: leading?.chunkCount ?? 0,
    log_bytes: leading?.logBytes ?? 0,
    console_bytes: leading?.consoleEnd ?? 0,
    guest_ns: leading?.guestNs ?? "0",
    steps: leading?.steps ?? "0",
    switch_ms: leading?.switchMs ?? null,
    commit_latency_ms: leading?.commitLatencyMs?.p50 ?? null,
    output_delay_ms: leading?.outputDelayMs?.p50 ?? null,
    end_reason: firstOf(statuses, (status) => status.endReason),
    end_report: firstOf(statuses, (status) => status.endReport),
    members: membersNow(spec, statuses).map((member) => viewMember(member, context)),
  };
}

function viewMember(member: Member, context: ViewContext): MemberView {
  const status = context.statuses.get(member.id);
  return {
    node: member.id,
    name: context.nameOf(member.id),
    role: member.role,
    connected: context.isConnected(member.id),
    state: status?.state ?? "unreachable",
    leader: status?.isLeader ?? false,
    term: status?.term ?? 0,
    chunks: status?.chunkCount ?? 0,
    replayed_chunks: status?.replayedChunks ?? 0,
    console_bytes: status?.consoleEnd ?? 0,
    engine: status?.engine ?? null,
    pid: status?.pid ?? null,
    failure: status?.failure ?? null,
  };
}

function firstOf<T>(
  statuses: ReadonlyMap<string, CopyStatus>,
  pick: (status: CopyStatus) => T | null,
): T | null {
  for (const status of statuses.values()) {
    const value = pick(status);
    if (value !== null) return value;
  }
  return null;
}
