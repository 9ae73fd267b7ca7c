/**
 * This node's answers to what other members ask about the VMs it holds. Decides nothing that is not
 * this node's own matter; what a peer sent was checked against its schema before it comes here.
 */
import type { Mesh } from "../../mesh/mod.ts";
import type { ConsoleHub } from "../vm/console_hub.ts";
import { decodeSpec, encodeSpec } from "../vm/vm_spec.ts";
import { NotPrimaryError, type VmSupervisor } from "../vm/vm_supervisor.ts";
import {
  type ActionResult,
  VM_ABANDON,
  VM_CONSOLE,
  VM_CREATE,
  VM_INPUT,
  VM_LEAD,
  VM_REMOVE,
  VM_REPORT,
  VM_RESERVE,
  VM_STOP,
  type VmReport,
} from "./member_rpc.ts";
import type { VmHost } from "./vm_host.ts";

/** Starts answering; the result ends it. */
export function serveMembers(mesh: Mesh, host: VmHost): () => void {
  const { rpc } = mesh.node;
  const vmOf = (id: string): VmSupervisor => {
    const supervisor = host.byId(id);
    if (supervisor === null) throw new Error("this node does not hold that VM");
    return supervisor;
  };
  const unregister = [
    rpc.register(VM_RESERVE, ({ id, name, release }) => {
      if (release) host.release(name, id);
      return { taken: !release && host.reserve(name, id) };
    }),
    rpc.register(VM_CREATE, async ({ spec }, { from, signal }) => {
      await host.create(decodeSpec(spec), { from, signal });
      return {};
    }),
    rpc.register(VM_LEAD, ({ id }) => {
      host.lead(id);
      return {};
    }),
    rpc.register(VM_ABANDON, async ({ id }, { from }) => {
      const vm = host.byId(id);
      if (vm === null) return {};
      if (vm.spec.owner !== from) throw new Error("only its owner may abandon a VM");
      if (vm.status().chunkCount > 0) throw new Error("the VM has run already");
      await host.destroy(id);
      return {};
    }),
    rpc.register(VM_REPORT, ({ id, name }) => ({
      reports: wanted(host, { id, name }).map(report),
      removed: id !== undefined && host.wasRemoved(id),
    })),
    rpc.register(VM_INPUT, ({ id, ...message }, { signal }) =>
      acted(() => vmOf(id).input(message, { signal })),
    ),
    rpc.register(VM_STOP, ({ id }) => acted(() => vmOf(id).stopGuest())),
    rpc.register(VM_REMOVE, ({ id }) => ({
      result: vmOf(id).proposeRemoval() ? ("done" as const) : ("moved" as const),
    })),
    rpc.registerStream(VM_CONSOLE, ({ id, offset, follow }, { signal }) =>
      consoleStream(vmOf(id).hub, { offset, follow, signal }),
    ),
  ];
  return () => {
    for (const end of unregister) end();
  };
}

function wanted(
  host: VmHost,
  filter: { readonly id?: string | undefined; readonly name?: string | undefined },
): VmSupervisor[] {
  if (filter.id === undefined && filter.name === undefined) return host.all();
  const found = filter.id === undefined ? host.byName(filter.name ?? "") : host.byId(filter.id);
  return found === null ? [] : [found];
}

function report(supervisor: VmSupervisor): VmReport {
  return { spec: encodeSpec(supervisor.spec), status: supervisor.status() };
}

/** Done here, or the sign that the caller should look for the primary again. */
async function acted(action: () => void | Promise<void>): Promise<{ result: ActionResult }> {
  try {
    await action();
    return { result: "done" };
  } catch (error) {
    if (error instanceof NotPrimaryError) return { result: "moved" };
    if (error instanceof RangeError) return { result: "ended" };
    throw error;
  }
}

/** Everything from `offset` on; when following, until the VM ends or the reader leaves. */
async function* consoleStream(
  hub: ConsoleHub,
  options: { readonly offset: number; readonly follow: boolean; readonly signal: AbortSignal },
): AsyncGenerator<{ offset: number; bytes: Uint8Array; end: number; closed: boolean }> {
  let next = options.offset;
  for (;;) {
    const slice = options.follow
      ? await hub.readWaiting(next, { signal: options.signal })
      : hub.read(next);
    if (options.signal.aborted) return;
    // Behind the reader: after a restart this copy has not made those bytes again yet.
    if (slice.offset >= next || slice.bytes.length > 0) yield slice;
    next = Math.max(next, slice.offset + slice.bytes.length);
    const finished = next >= slice.end;
    if (finished && (slice.closed || !options.follow)) return;
  }
}
