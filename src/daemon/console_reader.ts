/**
 * Follows a VM's console wherever it is best read: a reader gets each byte once, in order, whatever
 * happens to the members meanwhile. Moves to another member when the one it reads from is lost, or
 * stays silent while another one knows more.
 */
import type { Mesh, NodeId } from "../../mesh/mod.ts";
import type { CopyStatus } from "../vm/vm_entries.ts";
import type { VmSpec } from "../vm/vm_spec.ts";
import { VM_CONSOLE } from "./member_rpc.ts";
import type { VmRouter } from "./vm_router.ts";
import { condition, primaryOf } from "./vm_view.ts";

/** Silence after which the other members are asked whether they know more. */
const silentMs = 1_000;
const retryFirstMs = 25;
const retryMaxMs = 500;

export interface ConsolePiece {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** The VM has ended, and this is the last piece. */
  readonly closed: boolean;
}

export interface ConsoleQuery {
  readonly offset: number;
  readonly follow: boolean;
  readonly signal: AbortSignal;
}

type Step = IteratorResult<{ offset: number; bytes: Uint8Array; end: number; closed: boolean }>;

/** Pieces from `offset` on. Without `follow`: what there is; with: until the VM ends. */
export async function* readConsole(
  parts: { readonly mesh: Mesh; readonly router: VmRouter; readonly spec: VmSpec },
  query: ConsoleQuery,
): AsyncGenerator<ConsolePiece> {
  let next = query.offset;
  let pauseMs = retryFirstMs;
  while (!query.signal.aborted) {
    const statuses = await parts.router.statuses(parts.spec);
    const source = bestSource(statuses, parts.mesh.id);
    if (source === null && !query.follow) {
      throw new Error("none of its copies can be reached");
    }
    if (source !== null) {
      for await (const piece of readFrom(parts, source, { ...query, offset: next })) {
        next = piece.offset + piece.bytes.length;
        pauseMs = retryFirstMs;
        yield piece;
        if (piece.closed) return;
      }
      if (!query.follow) return;
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(pauseMs * 2, retryMaxMs);
  }
}

/** The primary; without one the copy that knows most, this node's own when it knows as much. */
export function bestSource(statuses: ReadonlyMap<NodeId, CopyStatus>, self: NodeId): NodeId | null {
  const primary = primaryOf(statuses);
  if (primary !== null && condition(statuses) !== "ended") return primary;
  let best: NodeId | null = null;
  let bestEnd = -1;
  for (const [node, status] of statuses) {
    if (status.role !== "replica") continue;
    const better = status.consoleEnd > bestEnd || (status.consoleEnd === bestEnd && node === self);
    if (better) {
      best = node;
      bestEnd = status.consoleEnd;
    }
  }
  return best;
}

/** Pieces from one member, until it is lost or another one is better. Never throws. */
async function* readFrom(
  parts: { readonly mesh: Mesh; readonly router: VmRouter; readonly spec: VmSpec },
  source: NodeId,
  query: ConsoleQuery,
): AsyncGenerator<ConsolePiece> {
  const stop = new AbortController();
  const signal = AbortSignal.any([query.signal, stop.signal]);
  const request = { id: parts.spec.id, offset: query.offset, follow: query.follow };
  let next = query.offset;
  try {
    const stream = parts.mesh.node.rpc.stream(source, VM_CONSOLE, request, { signal });
    const steps = stream[Symbol.asyncIterator]();
    let step = handled(steps.next());
    for (;;) {
      const result = await withinSilence(step);
      if (result === null) {
        if (await knowsMore(parts, source, next)) return;
        continue;
      }
      if (result.done === true) return;
      const { offset, bytes, end, closed } = result.value;
      step = handled(steps.next());
      // Only the other member's lies could come before what was asked for.
      if (offset < next) return;
      next = offset + bytes.length;
      const last = closed && next >= end;
      if (bytes.length > 0 || last) yield { offset, bytes, closed: last };
      if (last) return;
    }
  } catch {
    // The link or the member is lost: the caller looks for another source.
  } finally {
    stop.abort();
  }
}

/** A reader may leave before the next piece is there: its failure is then nobody's business. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

function withinSilence(step: Promise<Step>): Promise<Step | null> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(null), silentMs);
    step.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

async function knowsMore(
  parts: { readonly router: VmRouter; readonly spec: VmSpec },
  source: NodeId,
  offset: number,
): Promise<boolean> {
  const statuses = await parts.router.statuses(parts.spec);
  for (const [node, status] of statuses) {
    if (node !== source && status.role === "replica" && status.consoleEnd > offset) return true;
  }
  const other = primaryOf(statuses);
  return other !== null && other !== source;
}
