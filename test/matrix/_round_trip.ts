/** One guest through the whole matrix: recorded, replayed, verified twice, inspected. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type RunOptions, type RunStats, readStats, runMonitor } from "./_monitor.ts";

export interface Guest {
  readonly kernel: string;
  readonly initrd?: string;
  readonly cmdline?: string;
  readonly memoryMib?: number;
  readonly timeoutSeconds?: number;
}

export interface Recorded {
  readonly log: string;
  readonly console: Buffer;
  readonly stats: RunStats;
}

export function guestArguments(guest: Guest): string[] {
  return [
    "--kernel",
    guest.kernel,
    ...(guest.initrd === undefined ? [] : ["--initrd", guest.initrd]),
    ...(guest.cmdline === undefined ? [] : ["--cmdline", guest.cmdline]),
    "--mem",
    String(guest.memoryMib ?? 128),
    "--timeout",
    String(guest.timeoutSeconds ?? 60),
  ];
}

export type Engine = "auto" | "interp" | "kvm";

export interface RecordOptions extends RunOptions {
  readonly engine?: Engine;
  /** 1 for a guest that ends by its own fault. */
  readonly status?: number;
}

/** Records the guest; it must end with the exit status that is due to it, by default with 0. */
export async function record(
  guest: Guest,
  directory: string,
  options: RecordOptions = {},
): Promise<Recorded> {
  const log = join(directory, "guest.nmlog");
  const statsFile = join(directory, "record.json");
  const engine = ["--engine", options.engine ?? "auto"];
  const args = ["record", log, ...guestArguments(guest), ...engine, "--stats", statsFile];
  const result = await runMonitor(args, options);
  assert.equal(result.status, options.status ?? 0, `record: ${result.errors}`);
  return { log, console: result.console, stats: readStats(statsFile) };
}

/** The replay says the same, ends in the same state, and so does a second one. */
export async function assertReplays(recorded: Recorded, directory: string): Promise<void> {
  const statsFile = join(directory, "replay.json");
  const replayed = await runMonitor(["replay", recorded.log, "--stats", statsFile]);
  assert.equal(replayed.status, 0, `replay: ${replayed.errors}`);
  assert.ok(replayed.console.equals(recorded.console), "the replay printed something else");
  assertSameRun(readStats(statsFile), recorded.stats);
  for (const round of [1, 2]) {
    const verifyFile = join(directory, `verify-${round}.json`);
    const verified = await runMonitor(["verify", recorded.log, "--stats", verifyFile]);
    assert.equal(verified.status, 0, `verify ${round}: ${verified.errors}`);
    assertSameRun(readStats(verifyFile), recorded.stats);
  }
  const inspected = await runMonitor(["inspect", recorded.log, "--events"]);
  assert.equal(inspected.status, 0, `inspect: ${inspected.errors}`);
}

/** Another engine than the one that recorded finds the same: console, time, final digest. */
export async function assertVerifies(
  recorded: Recorded,
  directory: string,
  engine: Engine,
): Promise<RunStats> {
  const statsFile = join(directory, `verify-${engine}.json`);
  const args = ["verify", recorded.log, "--engine", engine, "--stats", statsFile];
  const verified = await runMonitor(args);
  assert.equal(verified.status, 0, `verify on ${engine}: ${verified.errors}`);
  const stats = readStats(statsFile);
  assertSameRun(stats, recorded.stats);
  return stats;
}

function assertSameRun(found: RunStats, recorded: RunStats): void {
  assert.equal(found.diverged, null);
  for (const field of ["steps", "guest_ns", "console_bytes", "console_sha256", "digest"] as const) {
    assert.equal(found[field], recorded[field], field);
  }
}
