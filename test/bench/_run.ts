/** Runs one program to its end or a line, timed from its start: the bench's only stopwatch. */
import { type ChildProcess, spawn } from "node:child_process";

export interface TimedRun {
  /** From the start of the process until `line` was seen; null if it never was. */
  readonly lineMs: number | null;
  /** From its start to its end. */
  readonly wallMs: number;
  readonly status: number | null;
}

const runMsMax = 300_000;

/** Runs `command` until it ends; notes when `line` first stands in its output. */
export async function timedRun(command: readonly string[], line: string): Promise<TimedRun> {
  const began = performance.now();
  const child = spawn(command[0] ?? "", command.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
  let lineMs: number | null = null;
  let seen = "";
  let errors = "";
  child.stdout.on("data", (bytes: Buffer) => {
    if (lineMs !== null) return;
    seen = (seen + bytes.toString("latin1")).slice(-64 * 1024);
    if (seen.includes(line)) lineMs = performance.now() - began;
  });
  child.stderr.on("data", (bytes: Buffer) => {
    errors = (errors + bytes.toString()).slice(-4096);
  });
  const status = await ended(child);
  if (lineMs === null) {
    throw new Error(`Cannot measure "${command[0]}": it never printed "${line}"\n${errors}`);
  }
  return { lineMs, wallMs: performance.now() - began, status };
}

function ended(child: ChildProcess): Promise<number | null> {
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  const killer = setTimeout(() => child.kill("SIGKILL"), runMsMax);
  child.on("error", reject);
  child.on("close", (status) => {
    clearTimeout(killer);
    resolve(status);
  });
  return promise;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}
