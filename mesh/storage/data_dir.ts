/**
 * A node's data directory: made for its owner only, and used by one process at a time. The lock is
 * a database lock, which the kernel drops when the process dies; a stale lock cannot exist.
 */

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

const LOCK_FILE = "lock.db";
const PID_FILE = "node.pid";

export interface DataDir {
  readonly path: string;
  release(): void;
}

function lockHolder(path: string): string {
  try {
    const pid = Number.parseInt(readFileSync(join(path, PID_FILE), "utf8"), 10);
    return Number.isSafeInteger(pid) ? `by process ${pid}` : "by another process";
  } catch {
    return "by another process";
  }
}

function isBusy(error: unknown): boolean {
  const code = (error as { errcode?: unknown }).errcode;
  return typeof code === "number" && (code & 0xff) === 5;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Creates the directory if need be and takes it for this process. */
export function openDataDir(path: string): DataDir {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new Error(
      `Cannot create data directory "${path}": ${reason(error)}; give another one with --data`,
    );
  }
  let lock: DatabaseSync | undefined;
  try {
    lock = new DatabaseSync(join(path, LOCK_FILE), { timeout: 0 });
    chmodSync(join(path, LOCK_FILE), 0o600);
    lock.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    lock?.close();
    if (isBusy(error)) {
      throw new Error(
        `Cannot open data directory "${path}": it is in use ${lockHolder(path)}; ` +
          "stop that node or give another directory with --data",
      );
    }
    throw new Error(
      `Cannot open data directory "${path}": ${reason(error)}; give another one with --data`,
    );
  }
  const held = lock;
  try {
    writeFileSync(join(path, PID_FILE), `${process.pid}\n`, { mode: 0o600 });
  } catch (error) {
    held.close();
    throw new Error(`Cannot write to data directory "${path}": ${reason(error)}`);
  }
  return {
    path,
    release: () => {
      if (held.isOpen) held.close();
    },
  };
}
