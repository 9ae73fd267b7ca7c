/**
 * What nodes ask each other about VMs: the definitions that both ends share. Each request and
 * answer is checked against its schema at both ends.
 */
import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { defineRpc, defineRpcStream } from "../../mesh/mod.ts";
import { consoleReadBytesMax } from "../vm/console_hub.ts";
import { CopyStatusSchema, inputBytesMax } from "../vm/vm_entries.ts";
import { limitsOfVm, vmNamePattern } from "../vm/vm_spec.ts";

const vmId = Type.String({ pattern: "^[0-9a-f]{32}$" });
const name = Type.String({ pattern: vmNamePattern });
const count = Type.Integer({ minimum: 0 });
const spec = Type.Uint8Array({ maxByteLength: limitsOfVm.specBytesMax });
const empty = Type.Object({});
const node = Type.String({ minLength: 1, maxLength: 128 });
const voter = Type.Union([Type.Literal("replica"), Type.Literal("witness")]);

/** A request that only says which VM is meant. */
function aboutVm<Res extends TSchema>(method: string, response: Res) {
  return defineRpc({ name: method, request: Type.Object({ id: vmId }), response });
}

const groupChange = Type.Union([
  /** Takes a node in as a learner that is to become what `role` says. */
  Type.Object({ kind: Type.Literal("add"), node, role: voter }),
  Type.Object({ kind: Type.Literal("promote"), node, role: voter }),
  Type.Object({ kind: Type.Literal("remove"), node }),
  /** Makes a replica the primary. */
  Type.Object({ kind: Type.Literal("lead"), node }),
]);
export type GroupChange = Static<typeof groupChange>;

/**
 * Keeps a name for a VM that is being made; refused when the node knows the name otherwise. With
 * `release`: the VM is made, or will not be.
 */
export const VM_RESERVE = defineRpc({
  name: "vm.reserve",
  request: Type.Object({ id: vmId, name, release: Type.Boolean() }),
  response: Type.Object({ taken: Type.Boolean() }),
});

/** Become a member: fetch the images, store the VM. An error is the reason of the refusal. */
export const VM_CREATE = defineRpc({
  name: "vm.create",
  request: Type.Object({ spec }),
  response: empty,
});

/** All members have the VM: the first one of them may ask to lead it. */
export const VM_LEAD = aboutVm("vm.lead", empty);

/** Undo of `vm.create`, by the VM's owner, while the VM never ran. */
export const VM_ABANDON = aboutVm("vm.abandon", empty);

export const VmReportSchema = Type.Object({ spec, status: CopyStatusSchema });
export type VmReport = Static<typeof VmReportSchema>;

/** The copies on this node: of one VM by id or name, or of all. */
export const VM_REPORT = defineRpc({
  name: "vm.report",
  request: Type.Object({ id: Type.Optional(vmId), name: Type.Optional(name) }),
  response: Type.Object({
    reports: Type.Array(VmReportSchema, { maxItems: 1024 }),
    /** The VM that was asked for existed and was removed. */
    removed: Type.Boolean(),
  }),
});

export const VM_CONSOLE = defineRpcStream({
  name: "vm.console",
  request: Type.Object({ id: vmId, offset: count, follow: Type.Boolean() }),
  item: Type.Object({
    offset: count,
    bytes: Type.Uint8Array({ maxByteLength: consoleReadBytesMax }),
    end: count,
    closed: Type.Boolean(),
  }),
});

/** `moved`: this node is not the primary now; ask again where it is. */
const actionResult = Type.Object({
  result: Type.Union([Type.Literal("done"), Type.Literal("moved"), Type.Literal("ended")]),
});

export const VM_INPUT = defineRpc({
  name: "vm.input",
  request: Type.Object({
    id: vmId,
    source: count,
    seq: Type.Integer({ minimum: 1 }),
    data: Type.Uint8Array({ maxByteLength: inputBytesMax }),
  }),
  response: actionResult,
});

export const VM_STOP = defineRpc({
  name: "vm.stop",
  /** `force`: takes the power away. Otherwise the guest's power button is pressed. */
  request: Type.Object({ id: vmId, force: Type.Boolean() }),
  response: actionResult,
});

export const VM_REMOVE = aboutVm("vm.remove", actionResult);

/** Become a member of a running VM: fetch the images, store the log. Asked by its leader. */
export const VM_ADOPT = defineRpc({
  name: "vm.adopt",
  request: Type.Object({ spec, role: voter }),
  response: empty,
});

/** The VM goes on without this node, which finds out from the others whether that is so. */
export const VM_LEAVE = aboutVm("vm.leave", empty);

/** One step of a VM's membership, at its leader. `moved`: not there, or not now. */
export const VM_CHANGE = defineRpc({
  name: "vm.change",
  request: Type.Object({ id: vmId, change: groupChange }),
  response: actionResult,
});

/** Take no VM in any more and move those away that are here; or take them in again. */
export const NODE_DRAIN = defineRpc({
  name: "node.drain",
  request: Type.Object({ drain: Type.Boolean() }),
  response: empty,
});

export type ActionResult = Static<typeof actionResult>["result"];
