/**
 * This node's answers to what other members ask about the VMs it holds. Decides nothing that is not
 * this node's own matter; what a peer sent was checked against its schema before it comes here.
 */
import { ForbiddenError, type Mesh, type MeshRole } from "../../mesh/mod.ts";
import type { ConsoleHub } from "../vm/console_hub.ts";
import { decodeSpec, encodeSpec } from "../vm/vm_spec.ts";
import { NotPrimaryError, type VmSupervisor } from "../vm/vm_supervisor.ts";
import { GroupChanger } from "./group_changer.ts";
import {
  type ActionResult,
  NODE_DRAIN,
  VM_ABANDON,
  VM_ADOPT,
  VM_CHANGE,
  VM_CONSOLE,
  VM_CREATE,
  VM_INPUT,
  VM_LEAD,
  VM_LEAVE,
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
  const { needs, needsVm } = rulesOf(mesh);
  const vmOf = (id: string): VmSupervisor => held(host, id);
  const unregister = [
    ...serveChanges(mesh, host),
    rpc.register(VM_RESERVE, ({ id, name, release }, { from }) => {
      needs(from, "use");
      if (release) host.release(name, id);
      return { taken: !release && host.reserve(name, id) };
    }),
    rpc.register(VM_CREATE, async ({ spec }, { from, signal }) => {
      needs(from, "use");
      const given = decodeSpec(spec);
      if (given.owner !== from) throw new Error("the VM's owner is somebody else");
      if (!mesh.may(mesh.id, "lend")) throw new Error("it has not the role to lend");
      await host.create(given, { from, signal });
      return {};
    }),
    rpc.register(VM_LEAD, ({ id }, { from }) => {
      needsVm(from, host.byId(id));
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
    rpc.register(VM_INPUT, ({ id, ...message }, { from, signal }) => {
      needsVm(from, vmOf(id));
      return acted(() => vmOf(id).input(message, { signal }));
    }),
    rpc.register(VM_STOP, ({ id, force }, { from }) => {
      needsVm(from, vmOf(id));
      return acted(() => (force ? vmOf(id).stopGuest() : vmOf(id).pressPowerButton()));
    }),
    rpc.register(VM_REMOVE, ({ id }, { from }) => {
      needsVm(from, vmOf(id));
      return { result: vmOf(id).proposeRemoval() ? ("done" as const) : ("moved" as const) };
    }),
    rpc.registerStream(VM_CONSOLE, ({ id, offset, follow }, { from, signal }) => {
      needsVm(from, vmOf(id));
      return consoleStream(vmOf(id).hub, { offset, follow, signal });
    }),
  ];
  return () => {
    for (const end of unregister) end();
  };
}

/** How VMs come to this node and go from it while they run. */
function serveChanges(mesh: Mesh, host: VmHost): (() => void)[] {
  const { rpc } = mesh.node;
  const { needs, needsVm } = rulesOf(mesh);
  const changer = new GroupChanger(mesh);
  return [
    rpc.register(VM_ADOPT, async ({ spec, role }, { from, signal }) => {
      needs(from, "lend");
      if (!mesh.may(mesh.id, "lend")) throw new Error("it has not the role to lend");
      const given = decodeSpec(spec);
      needs(given.owner, "use");
      await host.adopt(given, { from, role, signal });
      return {};
    }),
    rpc.register(VM_LEAVE, async ({ id }) => {
      await host.findOut(id);
      return {};
    }),
    rpc.register(VM_CHANGE, async ({ id, change }, { from, signal }) => {
      const vm = held(host, id);
      needsVm(from, vm);
      return { result: await changer.change(vm, change, { signal }) };
    }),
    rpc.register(NODE_DRAIN, async ({ drain }, { from }) => {
      // The machine's own user may always have it back.
      if (from !== mesh.id) needs(from, "administer");
      await host.setTakes(!drain);
      return {};
    }),
  ];
}

function held(host: VmHost, id: string): VmSupervisor {
  const supervisor = host.byId(id);
  if (supervisor === null) throw new Error("this node does not hold that VM");
  return supervisor;
}

/** What a node may ask for; a refusal is counted, and an answer for whoever sits there. */
function rulesOf(mesh: Mesh): {
  needs(from: string, role: MeshRole): void;
  needsVm(from: string, vm: VmSupervisor | null): void;
} {
  const refuse = (from: string, why: string): never => {
    mesh.node.refusals.note("requests_forbidden", { peer: from }, `Refused ${from}: ${why}`);
    throw new ForbiddenError(why);
  };
  const needs = (from: string, role: MeshRole): void => {
    if (!mesh.may(from, role)) refuse(from, `the node it is asked from has not the role "${role}"`);
  };
  return {
    needs,
    needsVm: (from, vm) => {
      if (mesh.may(from, "administer")) return;
      needs(from, "use");
      if (vm !== null && vm.spec.owner !== from) {
        refuse(
          from,
          "the VM belongs to another node, and the one it is asked from may not administer",
        );
      }
    },
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
