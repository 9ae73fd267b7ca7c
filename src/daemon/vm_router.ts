/**
 * Any node answers for any VM: finds a VM's members by name, asks them, and repeats elsewhere what
 * the one asked could not do. Directory hints only say where to look first; the truth comes from
 * the members. Holds no state of a VM but where it was last found.
 */
import type { Mesh, NodeId } from "../../mesh/mod.ts";
import { RpcRemoteError } from "../../mesh/mod.ts";
import { cannot, oneLine } from "../user_error.ts";
import type { CopyStatus } from "../vm/vm_entries.ts";
import { decodeSpec, type VmSpec } from "../vm/vm_spec.ts";
import {
  type ActionResult,
  VM_INPUT,
  VM_REMOVE,
  VM_REPORT,
  VM_STOP,
  type VmReport,
} from "./member_rpc.ts";
import { condition, membersNow, primaryOf, type VmView, viewVm } from "./vm_view.ts";

export const routerLimits = {
  /** One question to one member; a paused process must not hold up the answer for long. */
  reportMs: 2_000,
  /** One try of an action at the primary. */
  actionMs: 10_000,
  /** All tries of an action: longer than any switch of the primary takes. */
  actionTotalMs: 60_000,
  /** Between two tries. */
  retryMs: 100,
  /** Nodes asked at once for a listing. A larger mesh is listed by its directory's hints. */
  nodesAskedMax: 64,
  /** VMs whose place is remembered. */
  knownMax: 1024,
} as const;

export interface FoundVm {
  readonly spec: VmSpec;
  readonly statuses: ReadonlyMap<NodeId, CopyStatus>;
}

function hasEnded(statuses: ReadonlyMap<NodeId, CopyStatus>): boolean {
  return condition(statuses) === "ended";
}

export class VmRouter {
  readonly #mesh: Mesh;
  readonly #known = new Map<string, VmSpec>();
  readonly #primaries = new Map<string, NodeId>();
  /** By the VM's id. */
  readonly #members = new Map<string, readonly NodeId[]>();
  readonly #names = new Map<NodeId, string>();

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
  }

  /** The VM of that name or id, or null when no node that answers knows it. */
  async find(name: string): Promise<VmSpec | null> {
    const known = this.#known.get(name);
    if (known !== undefined && (await this.#answers(known))) return known;
    this.#known.delete(name);
    const query = /^[0-9a-f]{32}$/.test(name) ? { id: name } : { name };
    const hinted = this.#mesh.directory
      .vms()
      .filter((hint) => hint.name === name || hint.id === name)
      .map((hint) => hint.node);
    for (const nodes of [[...new Set([this.#mesh.id, ...hinted])], this.#connected()]) {
      const reports = await this.#ask(nodes, query);
      const first = [...reports.values()].flat()[0];
      if (first !== undefined) return this.#remember(name, decodeSpec(first.spec));
    }
    return null;
  }

  /** As `find`, but an unknown name is an error about `verb`. */
  async expect(name: string, verb: string): Promise<VmSpec> {
    const spec = await this.find(name);
    if (spec !== null) return spec;
    const remedy = "see: node-mesh vm ls";
    throw cannot(verb, name, { why: "there is no such VM", remedy, kind: "not_found" });
  }

  /** As `expect`, for acting on a VM: this node must be its owner or an administrator. */
  async expectOwn(name: string, verb: string): Promise<VmSpec> {
    const spec = await this.expect(name, verb);
    const { id } = this.#mesh;
    const isOwn = spec.owner === id && this.#mesh.may(id, "use");
    if (isOwn || this.#mesh.may(id, "administer")) return spec;
    const why = `it belongs to ${this.nameOf(spec.owner)}, and this node may not administer`;
    throw cannot(verb, name, { why, remedy: "ask there, or ask for that role" });
  }

  async statuses(spec: VmSpec): Promise<ReadonlyMap<NodeId, CopyStatus>> {
    const hinted = this.#mesh.directory
      .vms()
      .filter((hint) => hint.id === spec.id)
      .map((hint) => hint.node);
    const known = this.#members.get(spec.id) ?? spec.members.map((member) => member.id);
    const asked = new Set([...known, ...hinted]);
    const statuses = await this.#statusesOf([...asked], spec);
    const others = membersNow(spec, statuses).filter(({ id }) => !asked.has(id));
    const more = await this.#statusesOf(
      others.map(({ id }) => id),
      spec,
    );
    const all = new Map([...statuses, ...more]);
    const now = new Set(membersNow(spec, all).map(({ id }) => id));
    this.#members.set(spec.id, [...now]);
    trim(this.#members);
    // Whoever was left out and has not heard of it has nothing to say.
    return new Map([...all].filter(([node]) => now.has(node)));
  }

  async #statusesOf(nodes: readonly NodeId[], spec: VmSpec): Promise<Map<NodeId, CopyStatus>> {
    const statuses = new Map<NodeId, CopyStatus>();
    if (nodes.length === 0) return statuses;
    for (const [node, [report]] of await this.#ask(nodes, { id: spec.id })) {
      if (report !== undefined) statuses.set(node, report.status);
    }
    return statuses;
  }

  async view(spec: VmSpec): Promise<VmView> {
    return this.#viewOf({ spec, statuses: await this.statuses(spec) });
  }

  /** All VMs of the nodes that answer, as users see them. */
  async list(): Promise<VmView[]> {
    return (await this.found())
      .map((vm) => this.#viewOf(vm))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** All VMs of the nodes that answer, and what their members say. */
  async found(): Promise<FoundVm[]> {
    const found = new Map<string, { spec: VmSpec; statuses: Map<NodeId, CopyStatus> }>();
    for (const [node, reports] of await this.#ask(this.#connected(), {})) {
      for (const report of reports) {
        const spec = decodeSpec(report.spec);
        const entry = found.get(spec.id) ?? { spec, statuses: new Map() };
        entry.statuses.set(node, report.status);
        found.set(spec.id, entry);
      }
    }
    return [...found.values()];
  }

  /** Resolves when the input is committed. Sent again until then; applied once. */
  async input(
    spec: VmSpec,
    message: { readonly source: number; readonly seq: number; readonly data: Uint8Array },
    options: { readonly signal: AbortSignal },
  ): Promise<void> {
    const refused = await this.#atPrimary(spec, options.signal, (node, limits) =>
      this.#mesh.node.rpc.call(node, VM_INPUT, { id: spec.id, ...message }, limits),
    );
    if (refused !== null) throw cannot("type into VM", spec.name, refused);
  }

  /**
   * Resolves when the VM has ended: by itself, within `buttonMs` of its power button being pressed,
   * or else because its power was taken away. No time for the button: at once.
   */
  async stop(
    spec: VmSpec,
    options: { readonly signal: AbortSignal; readonly buttonMs: number },
  ): Promise<{ readonly forced: boolean }> {
    if (condition(await this.statuses(spec)) === "ended") {
      throw cannot("stop VM", spec.name, { why: "it has ended", remedy: "see: node-mesh vm show" });
    }
    if (options.buttonMs > 0 && (await this.#switchOff(spec, options))) return { forced: false };
    const refused = await this.#atPrimary(spec, options.signal, async (node, limits) => {
      const request = { id: spec.id, force: true };
      const answer = await this.#mesh.node.rpc.call(node, VM_STOP, request, limits);
      if (answer.result !== "done") return answer;
      const ended = await this.#waitUntil(spec, hasEnded);
      return { result: ended ? "done" : "moved" };
    });
    // It may have ended by an earlier try whose answer was lost: that is what was asked for.
    const ended = condition(await this.statuses(spec)) === "ended";
    if (refused !== null && !ended) throw cannot("stop VM", spec.name, refused);
    return { forced: true };
  }

  /** Presses the power button. True when the guest switched itself off in time. */
  async #switchOff(
    spec: VmSpec,
    options: { readonly signal: AbortSignal; readonly buttonMs: number },
  ): Promise<boolean> {
    const refused = await this.#atPrimary(spec, options.signal, (node, limits) =>
      this.#mesh.node.rpc.call(node, VM_STOP, { id: spec.id, force: false }, limits),
    );
    return refused === null && (await this.#waitUntil(spec, hasEnded, options.buttonMs));
  }

  /** Resolves when the group agreed that the VM is no more. */
  async remove(spec: VmSpec, options: { readonly signal: AbortSignal }): Promise<void> {
    const deadline = performance.now() + routerLimits.actionTotalMs;
    while (performance.now() < deadline && !options.signal.aborted) {
      const members = membersNow(spec, await this.statuses(spec));
      const proposed = await Promise.all(members.map(({ id }) => this.#remove(id, spec)));
      if (proposed.includes("done")) {
        const gone = await this.#waitUntil(spec, (statuses) =>
          [...statuses.values()].every((status) => status.state === "removed"),
        );
        if (gone) break;
      } else if (proposed.every((answer) => answer === "unknown")) break;
      const reached = members.filter(({ id }) => this.isConnected(id)).length;
      if (reached * 2 <= members.length) {
        const why = `${reached} of its ${members.length} members are connected`;
        const remedy = "start more of them (see: node-mesh vm show) and try again";
        throw cannot("remove VM", spec.name, { why, remedy, kind: "unavailable" });
      }
      await pause(routerLimits.retryMs);
    }
    this.#known.delete(spec.name);
    this.#known.delete(spec.id);
    this.#primaries.delete(spec.id);
  }

  isConnected(node: NodeId): boolean {
    return node === this.#mesh.id || this.#mesh.node.isConnected(node);
  }

  nameOf(node: NodeId): string {
    const hint = this.#mesh.directory.nodes().find(({ id }) => id === node);
    if (hint !== undefined) {
      this.#names.set(node, hint.name);
      trim(this.#names);
    }
    // A node that is away for longer announces nothing, and is still called what it was.
    return hint?.name ?? this.#names.get(node) ?? `…${node.slice(-8)}`;
  }

  async #remove(node: NodeId, spec: VmSpec): Promise<ActionResult | "unknown" | "unreachable"> {
    if (!this.isConnected(node)) return "unreachable";
    try {
      const limits = { timeoutMs: routerLimits.actionMs };
      const { rpc } = this.#mesh.node;
      return (await rpc.call(node, VM_REMOVE, { id: spec.id }, limits)).result;
    } catch (error) {
      return error instanceof RpcRemoteError ? "unknown" : "unreachable";
    }
  }

  #viewOf(vm: FoundVm): VmView {
    return viewVm(vm.spec, {
      statuses: vm.statuses,
      nameOf: (node) => this.nameOf(node),
      isConnected: (node) => this.isConnected(node),
    });
  }

  /** Tries `action` where the primary is said to be, until it is done; else says why not. */
  async #atPrimary(
    spec: VmSpec,
    signal: AbortSignal,
    action: (
      node: NodeId,
      limits: { readonly signal: AbortSignal; readonly timeoutMs: number },
    ) => Promise<{ readonly result: ActionResult }>,
  ): Promise<{ readonly why: string; readonly remedy: string } | null> {
    const deadline = performance.now() + routerLimits.actionTotalMs;
    let trouble = "no member says that it runs it";
    while (performance.now() < deadline) {
      if (signal.aborted) return { why: "it was given up", remedy: "try again" };
      const node = this.#primaries.get(spec.id) ?? (await this.#findPrimary(spec));
      if (node === "ended") return { why: "it has ended", remedy: "see: node-mesh vm show" };
      try {
        const limits = { signal, timeoutMs: routerLimits.actionMs };
        const answer = node === null ? { result: "moved" as const } : await action(node, limits);
        if (answer.result === "done") return null;
      } catch (error) {
        trouble = oneLine(error);
      }
      this.#primaries.delete(spec.id);
      await pause(routerLimits.retryMs);
    }
    return { why: `it has no primary (${trouble})`, remedy: "see: node-mesh vm show" };
  }

  async #findPrimary(spec: VmSpec): Promise<NodeId | "ended" | null> {
    const statuses = await this.statuses(spec);
    if (condition(statuses) === "ended") return "ended";
    const node = primaryOf(statuses);
    if (node !== null) {
      this.#primaries.set(spec.id, node);
      trim(this.#primaries);
    }
    return node;
  }

  async #waitUntil(
    spec: VmSpec,
    holds: (statuses: ReadonlyMap<NodeId, CopyStatus>) => boolean,
    waitMs: number = routerLimits.actionMs,
  ): Promise<boolean> {
    const deadline = performance.now() + waitMs;
    while (performance.now() < deadline) {
      if (holds(await this.statuses(spec))) return true;
      await pause(routerLimits.retryMs);
    }
    return false;
  }

  /** Is one of its members still a member? */
  async #answers(spec: VmSpec): Promise<boolean> {
    return [...(await this.statuses(spec)).values()].some(({ state }) => state !== "removed");
  }

  #remember(name: string, spec: VmSpec): VmSpec {
    this.#known.set(name, spec);
    trim(this.#known);
    return spec;
  }

  #connected(): NodeId[] {
    const peers = this.#mesh.node.peers().filter((peer) => peer.connected);
    return [this.#mesh.id, ...peers.map((peer) => peer.id)].slice(0, routerLimits.nodesAskedMax);
  }

  /** What the nodes that answer in time report. */
  async #ask(
    nodes: readonly NodeId[],
    query: { readonly id?: string; readonly name?: string },
  ): Promise<Map<NodeId, readonly VmReport[]>> {
    const answers = new Map<NodeId, readonly VmReport[]>();
    const ask = async (node: NodeId): Promise<void> => {
      if (!this.isConnected(node)) return;
      try {
        const limits = { timeoutMs: routerLimits.reportMs };
        answers.set(node, (await this.#mesh.node.rpc.call(node, VM_REPORT, query, limits)).reports);
      } catch {
        // A member that does not answer is shown as unreachable.
      }
    };
    await Promise.all(nodes.map(ask));
    return answers;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Forgets the oldest: a place that was forgotten is only looked up again. */
function trim(map: Map<string, unknown>): void {
  const oldest = map.keys().next().value;
  if (map.size > routerLimits.knownMax && oldest !== undefined) map.delete(oldest);
}
