/**
 * Runs the monitor's verbs for tests: record, replay, verify, inspect. What a failed test made is
 * kept under .test-output/ and named with the command that shows the failure again.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { assetPath } from "../../src/assets.ts";

/** What --stats writes. */
export interface RunStats {
  readonly engine: string;
  readonly steps: number;
  readonly wall_ms: number;
  readonly guest_ns: number;
  readonly log_bytes: number;
  readonly events: Readonly<Record<string, number>>;
  readonly console_bytes: number;
  readonly console_sha256: string;
  readonly digest: string | null;
  readonly end: string;
  readonly diverged: unknown;
  /** What ran user code directly did; null: nothing. */
  readonly user_engine: Readonly<Record<string, number>> | null;
}

export interface RunResult {
  readonly status: number | null;
  readonly console: Buffer;
  readonly errors: string;
}

/** Something typed at the guest after so many milliseconds. */
export interface Typed {
  readonly afterMs: number;
  readonly text: string;
}

export interface RunOptions {
  readonly typed?: readonly Typed[];
  /** The monitor is killed after so long: it hangs. */
  readonly killAfterMs?: number;
}

const killAfterMsDefault = 180_000;

/** Runs one verb to its end. Standard input stays open while something is still to be typed. */
export async function runMonitor(
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const child = spawn(assetPath("vmm"), args, { stdio: ["pipe", "pipe", "pipe"] });
  const output: Buffer[] = [];
  let errors = "";
  child.stdout.on("data", (bytes: Buffer) => output.push(bytes));
  child.stderr.on("data", (bytes: Buffer) => {
    errors += bytes.toString();
  });
  child.stdin.on("error", () => {}); // it ended before all was typed
  const killer = setTimeout(() => child.kill("SIGKILL"), options.killAfterMs ?? killAfterMsDefault);
  const timers = (options.typed ?? []).map((typed) =>
    setTimeout(() => child.stdin.write(typed.text), typed.afterMs),
  );
  if (timers.length === 0) child.stdin.end();
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.on("error", reject);
  child.on("close", resolve);
  try {
    const status = await promise;
    return { status, console: Buffer.concat(output), errors };
  } finally {
    clearTimeout(killer);
    for (const timer of timers) clearTimeout(timer);
  }
}

/** A directory for one test: removed when the test passes, kept and named when it fails. */
export function evidenceDirectory(context: TestContext, name: string): string {
  const directory = join(import.meta.dirname, "../../.test-output", `${name}-${process.pid}`);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  context.after(() => {
    if (context.passed) rmSync(directory, { recursive: true, force: true });
    else process.stderr.write(`evidence: ${directory}; look: ${assetPath("vmm")} verify LOG\n`);
  });
  return directory;
}

export function readStats(file: string): RunStats {
  return JSON.parse(readFileSync(file, "utf8"));
}
