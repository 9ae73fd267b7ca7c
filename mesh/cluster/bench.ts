/**
 * Commit latency and throughput of one group on three processes with fsync: propose at the leader
 * until delivered there. Prints a table, or JSON with --json. Loopback and one disk for all three.
 */

import { ProcessCluster } from "./process_cluster.ts";
import type { ServerEvent } from "./server_process.ts";

interface Row {
  readonly bytes: number;
  readonly window: number;
  readonly entries: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
  readonly entries_per_s: number;
  readonly mb_per_s: number;
  /** Of the leader's process, for each entry. */
  readonly cpu_us_per_entry: number;
  readonly stall_ms_max: number;
}

const CASES = [
  { bytes: 200, window: 1, count: 2_000 },
  { bytes: 4_096, window: 1, count: 2_000 },
  { bytes: 32_768, window: 1, count: 1_000 },
  { bytes: 200, window: 16, count: 20_000 },
  { bytes: 4_096, window: 16, count: 10_000 },
  { bytes: 32_768, window: 16, count: 3_000 },
  { bytes: 32_768, window: 256, count: 5_000 },
] as const;

function rowOf(
  of: { bytes: number; window: number; count: number },
  measured: ServerEvent & { kind: "measured" },
): Row {
  const sorted = [...measured.latenciesMs].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? 0;
  const perSecond = (1_000 * of.count) / measured.wallMs;
  const round = (value: number, digits: number) => Number(value.toFixed(digits));
  return {
    bytes: of.bytes,
    window: of.window,
    entries: of.count,
    p50_ms: round(at(0.5), 2),
    p99_ms: round(at(0.99), 2),
    entries_per_s: round(perSecond, 0),
    mb_per_s: round((perSecond * of.bytes) / 1e6, 1),
    cpu_us_per_entry: round((1_000 * measured.cpuMs) / of.count, 0),
    stall_ms_max: round(measured.stallMsMax, 0),
  };
}

/** Runs all cases on a fresh cluster. */
export async function benchCommit(): Promise<Row[]> {
  let measured: (ServerEvent & { kind: "measured" }) | null = null;
  const cluster = new ProcessCluster((_server, event) => {
    if (event.kind === "measured") measured = event;
    if (event.kind === "failed") throw new Error(event.message);
  });
  const rows: Row[] = [];
  try {
    await cluster.start(["replica", "replica", "replica"]);
    await cluster.until("a leader", () => cluster.leader !== undefined);
    for (const { bytes, window, count } of CASES) {
      measured = null;
      cluster.tell(cluster.leader!, { kind: "measure", bytes, window, count });
      await cluster.until("the measurement", () => measured !== null, 120_000);
      rows.push(rowOf({ bytes, window, count }, measured!));
    }
  } finally {
    await cluster.stop();
  }
  return rows;
}

async function main(): Promise<void> {
  const rows = await benchCommit();
  if (process.argv.includes("--json")) console.log(JSON.stringify({ commit: rows }, null, 2));
  else console.table(rows);
}

if (import.meta.main) await main();
