/**
 * What this node measures, for Prometheus. Names, units and labels follow its conventions: seconds
 * and bytes, `_total` on what only grows. Reads the daemon's parts when it is asked; keeps nothing
 * but histograms. Label values are names of VMs held here, of nodes, and of fixed sets.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Mesh } from "../../mesh/mod.ts";
import type { VmHost } from "../daemon/vm_host.ts";
import { version } from "../version.ts";
import type { VmSupervisor } from "../vm/vm_supervisor.ts";

const latencyBuckets = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const switchBuckets = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 2, 5, 10, 30];
const requestBuckets = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5];

type Read = (vm: VmSupervisor, status: ReturnType<VmSupervisor["status"]>) => number;

export class Metrics {
  readonly #registry = new Registry();
  readonly #commits: Histogram<"vm">;
  readonly #switches: Histogram<"vm">;
  readonly #requests: Histogram<"method" | "route" | "status">;

  constructor(parts: { readonly mesh: Mesh; readonly host: VmHost }) {
    collectDefaultMetrics({ register: this.#registry });
    this.#nodeMetrics(parts);
    this.#vmMetrics(parts.host);
    this.#commits = this.#histogram("node_mesh_vm_commit_latency_seconds", {
      help: "From a chunk's proposal to its commit, on the primary's node",
      labelNames: ["vm"],
      buckets: latencyBuckets,
    });
    this.#switches = this.#histogram("node_mesh_vm_switch_duration_seconds", {
      help: "From the loss of a primary to the first output of the new one, on this node",
      labelNames: ["vm"],
      buckets: switchBuckets,
    });
    this.#requests = this.#histogram("node_mesh_api_request_duration_seconds", {
      help: "Requests to the HTTP API, streams left out",
      labelNames: ["method", "route", "status"],
      buckets: requestBuckets,
    });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  committed(vm: string, ms: number): void {
    this.#commits.observe({ vm }, ms / 1000);
  }

  switched(vm: string, ms: number): void {
    this.#switches.observe({ vm }, ms / 1000);
  }

  requested(labels: { method: string; route: string; status: string }, ms: number): void {
    this.#requests.observe(labels, ms / 1000);
  }

  /** A VM is no longer here: its series end. */
  forget(vm: string): void {
    this.#commits.remove({ vm });
    this.#switches.remove({ vm });
  }

  #histogram<L extends string>(
    name: string,
    options: { help: string; labelNames: L[]; buckets: number[] },
  ): Histogram<L> {
    return new Histogram<L>({ name, ...options, registers: [this.#registry] });
  }

  #gauge<L extends string>(
    name: string,
    options: { help: string; labels?: L[]; collect: (gauge: Gauge<L>) => void },
  ): void {
    new Gauge<L>({
      name,
      help: options.help,
      labelNames: options.labels ?? [],
      registers: [this.#registry],
      collect() {
        this.reset();
        options.collect(this);
      },
    });
  }

  #counter<L extends string>(
    name: string,
    options: { help: string; labels: L[]; collect: (counter: Counter<L>) => void },
  ): void {
    new Counter<L>({
      name,
      help: options.help,
      labelNames: options.labels,
      registers: [this.#registry],
      collect() {
        this.reset();
        options.collect(this);
      },
    });
  }

  #nodeMetrics({ mesh, host }: { mesh: Mesh; host: VmHost }): void {
    this.#gauge("node_mesh_build_info", {
      help: "1, labelled with the version",
      labels: ["version"],
      collect: (gauge) => gauge.set({ version }, 1),
    });
    this.#gauge("node_mesh_peers", {
      help: "Known peers by whether they are connected",
      labels: ["connected"],
      collect: (gauge) => {
        const peers = mesh.node.peers();
        const up = peers.filter((peer) => peer.connected).length;
        gauge.set({ connected: "true" }, up);
        gauge.set({ connected: "false" }, peers.length - up);
      },
    });
    this.#gauge("node_mesh_peer_round_trip_seconds", {
      help: "Round trip to connected peers",
      labels: ["peer"],
      collect: (gauge) => {
        for (const { id, rttMs } of mesh.node.peers()) {
          if (rttMs !== null) gauge.set({ peer: id }, rttMs / 1000);
        }
      },
    });
    this.#gauge("node_mesh_lendable_memory_bytes", {
      help: "Guest memory that this node would still give",
      collect: (gauge) => gauge.set(host.memoryFreeBytes()),
    });
    this.#counter("node_mesh_events_total", {
      help: "Refusals, drops and stalls by kind",
      labels: ["kind"],
      collect: (counter) => {
        for (const [kind, value] of Object.entries(mesh.counters.snapshot())) {
          counter.inc({ kind }, value);
        }
      },
    });
  }

  #vmMetrics(host: VmHost): void {
    const perVm = (name: string, help: string, read: Read): void =>
      this.#gauge(name, {
        help,
        labels: ["vm"],
        collect: (gauge) => {
          for (const vm of host.all()) gauge.set({ vm: vm.spec.name }, read(vm, vm.status()));
        },
      });
    const perVmTotal = (name: string, help: string, read: Read): void =>
      this.#counter(name, {
        help,
        labels: ["vm"],
        collect: (counter) => {
          for (const vm of host.all()) counter.inc({ vm: vm.spec.name }, read(vm, vm.status()));
        },
      });
    this.#gauge("node_mesh_vm_info", {
      help: "1 for each VM held here, labelled with its role and state on this node",
      labels: ["vm", "id", "role", "state"],
      collect: (gauge) => {
        for (const { spec, ...vm } of host.all().map(labelled)) {
          gauge.set({ vm: spec.name, id: spec.id, ...vm }, 1);
        }
      },
    });
    perVm("node_mesh_vm_term", "Term of the VM's group", (_, { term }) => term);
    perVm("node_mesh_vm_primary", "1 where the primary is", (_, { state }) =>
      Number(state === "live"),
    );
    perVm("node_mesh_vm_replay_lag_chunks", "Committed chunks not replayed here", (vm, status) =>
      vm.isReplica && status.state !== "live"
        ? Math.max(0, status.chunkCount - status.replayedChunks)
        : 0,
    );
    perVm(
      "node_mesh_vm_follower_lag_entries",
      "Entries by which the slowest follower is behind, on the leader",
      (_, { followers }) => Math.max(0, ...followers.map((follower) => follower.lagEntries)),
    );
    perVm("node_mesh_vm_memory_bytes", "Memory of the guest", (vm) => vm.spec.memoryBytes);
    perVmTotal("node_mesh_vm_log_bytes_total", "Bytes of the log", (_, { logBytes }) => logBytes);
    perVmTotal("node_mesh_vm_log_chunks_total", "Chunks of the log", (_, s) => s.chunkCount);
    perVmTotal("node_mesh_vm_console_bytes_total", "Committed output", (_, s) => s.consoleEnd);
    perVmTotal("node_mesh_vm_switches_total", "Times the VM went live here", (_, s) => s.liveCount);
    perVmTotal(
      "node_mesh_vm_strange_entries_total",
      "Entries of the log that were left out",
      (_, { strangeEntries }) => strangeEntries,
    );
  }
}

function labelled(vm: VmSupervisor) {
  const { role, state } = vm.status();
  return { spec: vm.spec, role, state };
}
