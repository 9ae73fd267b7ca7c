/**
 * Where everything that is worth knowing about a running node comes together: metrics, the events
 * of the mesh, the history of VMs, the timing of switches. Owns these parts; what it shows comes
 * from the daemon's parts, which it never changes.
 */
import type { Mesh } from "../../mesh/mod.ts";
import { mergeHistories, VM_HISTORY, VmHistories, type VmHistory } from "../daemon/vm_history.ts";
import type { VmHost } from "../daemon/vm_host.ts";
import type { VmRouter } from "../daemon/vm_router.ts";
import { condition, primaryOf, type StatusHint } from "../daemon/vm_view.ts";
import { ChangeWatcher, type MeshPicture, type VmPicture } from "../events/change_watcher.ts";
import { EventLog } from "../events/event_log.ts";
import type { VmState } from "../vm/vm_entries.ts";
import type { VmSight } from "../vm/vm_observer.ts";
import type { VmSpec } from "../vm/vm_spec.ts";
import { Metrics } from "./metrics.ts";
import { type SwitchTimes, SwitchTracer } from "./switch_tracer.ts";

const askMs = 1_000;

/** Told of each switch that ended on this node. */
export type SwitchListener = (spec: VmSpec, times: SwitchTimes) => void;

export interface ObservatoryParts {
  readonly mesh: Mesh;
  readonly host: VmHost;
  readonly router: VmRouter;
}

export class Observatory {
  readonly events = new EventLog({ now: Date.now });
  readonly metrics: Metrics;
  readonly #parts: ObservatoryParts;
  readonly #histories: VmHistories;
  readonly #tracer = new SwitchTracer(() => performance.now());
  readonly #watcher: ChangeWatcher;
  readonly #listeners = new Set<SwitchListener>();
  readonly #ends: (() => void)[];
  readonly #lastMoments = new Map<string, string>();
  #watchers = 0;

  constructor(parts: ObservatoryParts) {
    this.#parts = parts;
    const { mesh, host, router } = parts;
    this.metrics = new Metrics({ mesh, host });
    this.#histories = new VmHistories({ all: () => host.all(), now: Date.now });
    this.#watcher = new ChangeWatcher({
      look: () => this.#announced(),
      ask: () => this.#asked(),
      nameOf: (node) => router.nameOf(node),
      isConnected: (node) => router.isConnected(node),
      isNamed: (node) => mesh.directory.nodes().some(({ id }) => id === node),
      emit: (event) => this.events.add(event),
      now: () => performance.now(),
      watched: () => this.#watchers > 0,
    });
    this.#ends = [
      mesh.node.onPeer(({ kind, id }) => this.#watcher.peer(kind, id)),
      mesh.node.rpc.register(VM_HISTORY, ({ id }) => this.#histories.of(id)),
      () => this.#histories.close(),
      () => this.#watcher.close(),
    ];
  }

  close(): void {
    for (const end of this.#ends) end();
  }

  /** Somebody follows the events: changes are looked for more often until the result is called. */
  watching(): () => void {
    this.#watchers += 1;
    this.#watcher.stir();
    let left = false;
    return () => {
      if (!left) this.#watchers -= 1;
      left = true;
    };
  }

  onSwitch(listener: SwitchListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What all members that answer saw of a VM. */
  async history(spec: VmSpec): Promise<VmHistory> {
    const { mesh, router } = this.#parts;
    const ask = async (node: string): Promise<VmHistory[]> => {
      if (!router.isConnected(node)) return [];
      try {
        const limits = { timeoutMs: askMs };
        return [await mesh.node.rpc.call(node, VM_HISTORY, { id: spec.id }, limits)];
      } catch {
        return [];
      }
    };
    const answers = await Promise.all(spec.members.map(({ id }) => ask(id)));
    return mergeHistories(answers.flat());
  }

  /** As a VM's supervisor shows it. */
  readonly see = (spec: VmSpec, sight: VmSight): void => {
    if (sight.kind === "commit") {
      this.metrics.committed(spec.name, sight.ms);
      return;
    }
    this.#moment(spec, sight);
    const times = this.#tracer.see(spec.id, sight);
    if (times !== null) this.#switched(spec, times);
    this.#watcher.stir();
  };

  /** A VM is no longer held here. */
  forget(spec: VmSpec): void {
    this.#tracer.forget(spec.id);
    this.#lastMoments.delete(spec.id);
    this.metrics.forget(spec.name);
  }

  #moment(spec: VmSpec, sight: VmSight): void {
    const { mesh } = this.#parts;
    const what = momentText(sight);
    if (what === null && sight.kind === "role") this.#lastMoments.delete(spec.id);
    // The group reports some states more than once.
    if (what === null || this.#lastMoments.get(spec.id) === what.text) return;
    this.#lastMoments.set(spec.id, what.text);
    this.events.add({
      kind: "vm.moment",
      vm: spec.name,
      vm_id: spec.id,
      node: mesh.id,
      node_name: mesh.name,
      to: what.name,
      term: sight.kind === "role" ? sight.term : null,
      text: `VM ${spec.name} on ${mesh.name}: ${what.text}`,
    });
  }

  #switched(spec: VmSpec, times: SwitchTimes): void {
    const { mesh } = this.#parts;
    const { term, first, lostAt, electedAt, liveAt, outputAt } = times;
    const total = outputAt - lostAt;
    this.#histories.switched(spec.id, {
      at_ms: Date.now(),
      term,
      node: mesh.id,
      first,
      elect_ms: electedAt - lostAt,
      live_ms: liveAt - electedAt,
      output_ms: outputAt - liveAt,
      total_ms: total,
    });
    for (const listener of this.#listeners) listener(spec, times);
    if (first) return;
    this.metrics.switched(spec.name, total);
    this.events.add({
      kind: "vm.switch",
      vm: spec.name,
      vm_id: spec.id,
      node: mesh.id,
      node_name: mesh.name,
      to: mesh.id,
      term,
      ms: total,
      text:
        `VM ${spec.name} speaks again on ${mesh.name} after ${total.toFixed(0)} ms: ` +
        `elected in ${(electedAt - lostAt).toFixed(0)}, live in ${(liveAt - electedAt).toFixed(0)}, ` +
        `first output in ${(outputAt - liveAt).toFixed(0)}`,
    });
  }

  #announced(): MeshPicture {
    const { mesh, host } = this.#parts;
    const found = new Map<string, { name: string; statuses: Map<string, StatusHint> }>();
    const add = (vm: { id: string; name: string; node: string }, status: StatusHint): void => {
      const entry = found.get(vm.id) ?? { name: vm.name, statuses: new Map() };
      entry.statuses.set(vm.node, status);
      found.set(vm.id, entry);
    };
    for (const hint of mesh.directory.vms()) {
      if (hint.node === mesh.id || !this.#parts.router.isConnected(hint.node)) continue;
      const { role, state, term, position } = hint;
      add(hint, {
        role: role as StatusHint["role"],
        state: state as VmState,
        term,
        chunkCount: position,
      });
    }
    for (const vm of host.all()) {
      add({ id: vm.spec.id, name: vm.spec.name, node: mesh.id }, vm.status());
    }
    return new Map([...found].map(([id, vm]) => [id, pictureOf(id, vm.name, vm.statuses)]));
  }

  async #asked(): Promise<MeshPicture> {
    const picture = new Map<string, VmPicture>();
    for (const { spec, statuses } of await this.#parts.router.found()) {
      picture.set(spec.id, pictureOf(spec.id, spec.name, statuses));
    }
    return picture;
  }
}

function pictureOf(id: string, name: string, statuses: ReadonlyMap<string, StatusHint>): VmPicture {
  return {
    id,
    name,
    state: condition(statuses),
    primary: primaryOf(statuses),
    term: Math.max(0, ...[...statuses.values()].map((status) => status.term)),
    members: new Map([...statuses].map(([node, status]) => [node, status.state])),
  };
}

function momentText(sight: VmSight): { readonly name: string; readonly text: string } | null {
  if (sight.kind === "output") return { name: "output", text: "the first output has left" };
  if (sight.kind === "role") {
    if (sight.leads) return { name: "elected", text: `elected in term ${sight.term}` };
    return sight.leader === null ? { name: "lost", text: "nobody leads" } : null;
  }
  if (sight.kind !== "phase") return null;
  if (sight.phase === "going_live") return { name: "going_live", text: "finishing the log" };
  return sight.phase === "live" ? { name: "live", text: "running on from there" } : null;
}
