/**
 * One step of a VM's membership at its leader: take a node in, give it a vote, drop one, hand the
 * primary over. Each step may be asked for again; what it leads to is in the group's log and
 * nowhere else, so whoever leads next can go on from there.
 */
import type { Mesh } from "../../mesh/mod.ts";
import { encodeSpec } from "../vm/vm_spec.ts";
import type { VmSupervisor } from "../vm/vm_supervisor.ts";
import { type ActionResult, type GroupChange, VM_ADOPT } from "./member_rpc.ts";

/** A new member fetches the images before it answers. */
const adoptMs = 120_000;

export class GroupChanger {
  readonly #mesh: Mesh;

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
  }

  /** Does the step, or says that this node can't now; throws why it will never be done. */
  async change(
    vm: VmSupervisor,
    change: GroupChange,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<ActionResult> {
    const known = vm.members.find(({ id }) => id === change.node);
    if (!vm.leads) return "moved";
    switch (change.kind) {
      case "add":
        if (known !== undefined) return "done";
        if (!this.#mesh.gate.isMember(change.node)) throw new Error("it is not in the mesh");
        await this.#adopt(vm, change, options.signal);
        return answer(vm.changeMember(change.node, "learner"));
      case "promote":
        if (known === undefined) throw new Error("it is no member of the VM");
        return answer(vm.changeMember(change.node, change.role));
      case "remove":
        if (change.node === this.#mesh.id) throw new Error("it leads; hand over first");
        return answer(vm.changeMember(change.node, null));
      case "lead":
        if (change.node === this.#mesh.id) return "done";
        if (known?.role !== "replica") throw new Error("it is no replica of the VM");
        return answer(vm.handOverTo(change.node));
    }
  }

  async #adopt(
    vm: VmSupervisor,
    change: GroupChange & { kind: "add" },
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const request = { spec: encodeSpec(vm.spec), role: change.role };
    const limits = { timeoutMs: adoptMs, signal };
    await this.#mesh.node.rpc.call(change.node, VM_ADOPT, request, limits);
  }
}

function answer(isProposed: boolean): ActionResult {
  return isProposed ? "done" : "moved";
}
