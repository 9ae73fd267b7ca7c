/**
 * The recent past of the VMs held here: samples for charts, and how each switch went. In memory and
 * bounded; each member keeps what it saw itself, and whoever asks puts them together.
 */
import { type Static, Type } from "@sinclair/typebox";
import { defineRpc } from "../../mesh/mod.ts";
import type { VmSupervisor } from "../vm/vm_supervisor.ts";

export const historyLimits = {
  sampleMs: 2_000,
  /** Ten minutes. */
  samplesMax: 300,
  switchesMax: 64,
} as const;

const count = Type.Integer({ minimum: 0 });
const ms = Type.Number({ minimum: 0 });
const maybeMs = Type.Union([ms, Type.Null()]);

export const SampleSchema = Type.Object(
  {
    at_ms: Type.Number(),
    /** By the primary's member; others know less, and are there when that one is gone. */
    live: Type.Boolean(),
    chunks: count,
    log_bytes: count,
    console_bytes: count,
    /** Chunks by which the slowest follower is behind. */
    lag_chunks: Type.Union([count, Type.Null()]),
    commit_p50_ms: maybeMs,
    commit_p99_ms: maybeMs,
  },
  { title: "Sample" },
);
export type Sample = Static<typeof SampleSchema>;

export const SwitchSchema = Type.Object(
  {
    at_ms: Type.Number(),
    term: count,
    node: Type.String({ maxLength: 128 }),
    /** The first start of a VM is told as one, too. */
    first: Type.Boolean(),
    /** From the sign that nobody leads until this node was elected. */
    elect_ms: ms,
    /** Until the copy had finished the log and ran on. */
    live_ms: ms,
    /** Until its first output was committed. */
    output_ms: ms,
    total_ms: ms,
  },
  { title: "Switch" },
);
export type Switch = Static<typeof SwitchSchema>;

export const VmHistorySchema = Type.Object(
  {
    samples: Type.Array(SampleSchema, { maxItems: historyLimits.samplesMax }),
    switches: Type.Array(SwitchSchema, { maxItems: historyLimits.switchesMax }),
  },
  { title: "History" },
);
export type VmHistory = Static<typeof VmHistorySchema>;

export const VM_HISTORY = defineRpc({
  name: "vm.history",
  request: Type.Object({ id: Type.String({ pattern: "^[0-9a-f]{32}$" }) }),
  response: VmHistorySchema,
});

interface Kept {
  readonly samples: Sample[];
  readonly switches: Switch[];
}

export class VmHistories {
  readonly #all: () => readonly VmSupervisor[];
  readonly #now: () => number;
  readonly #kept = new Map<string, Kept>();
  readonly #timer: NodeJS.Timeout;

  constructor(options: {
    readonly all: () => readonly VmSupervisor[];
    /** Wall clock. */
    readonly now: () => number;
  }) {
    this.#all = options.all;
    this.#now = options.now;
    this.#timer = setInterval(() => this.#sample(), historyLimits.sampleMs).unref();
  }

  of(id: string): VmHistory {
    return this.#kept.get(id) ?? { samples: [], switches: [] };
  }

  switched(id: string, how: Switch): void {
    const { switches } = this.#keep(id);
    switches.push(how);
    if (switches.length > historyLimits.switchesMax) switches.shift();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #keep(id: string): Kept {
    const kept = this.#kept.get(id) ?? { samples: [], switches: [] };
    this.#kept.set(id, kept);
    return kept;
  }

  #sample(): void {
    const held = new Set<string>();
    for (const vm of this.#all()) {
      held.add(vm.spec.id);
      const status = vm.status();
      if (status.state !== "live" && status.state !== "following") continue;
      const live = status.state === "live";
      const { samples } = this.#keep(vm.spec.id);
      const lags = status.followers.map((follower) => follower.lagEntries);
      const commit = status.commitLatencyMs;
      const measured = live && commit !== null && commit.count > 0;
      samples.push({
        at_ms: this.#now(),
        live,
        chunks: status.chunkCount,
        log_bytes: status.logBytes,
        console_bytes: status.consoleEnd,
        lag_chunks: live ? Math.max(0, ...lags) : null,
        commit_p50_ms: measured ? commit.p50 : null,
        commit_p99_ms: measured ? commit.p99 : null,
      });
      if (samples.length > historyLimits.samplesMax) samples.shift();
    }
    for (const id of this.#kept.keys()) {
      if (!held.has(id)) this.#kept.delete(id);
    }
  }
}

/** One for each stretch of time: the primary's where there is one. */
function bestSamples(samples: readonly Sample[]): Sample[] {
  const best = new Map<number, Sample>();
  for (const sample of samples) {
    const slot = Math.floor(sample.at_ms / historyLimits.sampleMs);
    const other = best.get(slot);
    if (other === undefined || (sample.live && !other.live)) best.set(slot, sample);
  }
  return [...best.values()];
}

/** What several members saw of one VM, as one story. */
export function mergeHistories(histories: readonly VmHistory[]): VmHistory {
  const byTime = <T extends { readonly at_ms: number }>(rows: readonly T[], most: number): T[] =>
    [...rows].sort((a, b) => a.at_ms - b.at_ms).slice(-most);
  return {
    samples: byTime(
      bestSamples(histories.flatMap((history) => history.samples)),
      historyLimits.samplesMax,
    ),
    switches: byTime(
      histories.flatMap((history) => history.switches),
      historyLimits.switchesMax,
    ),
  };
}
