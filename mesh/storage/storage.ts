/**
 * What a node remembers: the log of its groups and a small key-value table, in one database that is
 * readable by its owner only. The node's identity key lives in that table and nowhere else: who
 * loses the log loses the identity with it, so a vote cannot be forgotten by a voter.
 */

import { chmodSync, closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { type Clock, systemClock } from "../clock.ts";
import { storageLimits } from "../limits.ts";
import { defaultWorkerSource, StorageError, WorkerClient } from "./_worker_client.ts";
import { openDataDir } from "./data_dir.ts";
import { LogStore } from "./log_store.ts";
import type { WorkerSource } from "./types.ts";

export interface MetaStore {
  get(key: string): Uint8Array | undefined;
  /** Keys that begin with `prefix`. */
  keys(prefix: string): string[];
  /** Durable when resolved; null removes the key. */
  put(key: string, value: Uint8Array | null): Promise<void>;
}

export interface Storage {
  readonly dataDir: string;
  readonly log: LogStore;
  readonly meta: MetaStore;
  /** Resolves if the storage as a whole fails. */
  readonly failure: Promise<StorageError>;
  close(): Promise<void>;
}

export interface StorageOptions {
  readonly dataDir: string;
  readonly workerSource?: WorkerSource;
  readonly clock?: Clock;
}

const DATABASE_FILE = "mesh.db";

function createPrivately(path: string): void {
  // SQLite would make it readable for others; its -wal and -shm files take over the mode.
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
}

async function openWorkers(
  path: string,
  source: WorkerSource,
): Promise<{ writer: WorkerClient; reader: WorkerClient }> {
  const writer = await WorkerClient.open({ path, role: "writer" }, source);
  try {
    return { writer, reader: await WorkerClient.open({ path, role: "reader" }, source) };
  } catch (error) {
    await writer.terminate();
    throw error;
  }
}

/** Opens the storage of one node. The data directory belongs to this process until `close`. */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  const dataDir = openDataDir(options.dataDir);
  const path = join(dataDir.path, DATABASE_FILE);
  let workers: { writer: WorkerClient; reader: WorkerClient } | null = null;
  try {
    createPrivately(path);
    workers = await openWorkers(path, options.workerSource ?? defaultWorkerSource);
    const { writer, reader } = workers;
    const clock = options.clock ?? systemClock();
    const rows = await reader.call("meta", null);
    const log = new LogStore({ writer, reader, clock, groups: await reader.call("groups", null) });
    return storageOf({ log, dataDir, values: new Map(rows.map((row) => [row.key, row.value])) });
  } catch (error) {
    await workers?.reader.terminate();
    await workers?.writer.terminate();
    dataDir.release();
    throw error;
  }
}

function storageOf(parts: {
  log: LogStore;
  dataDir: { path: string; release(): void };
  values: Map<string, Uint8Array>;
}): Storage {
  const { log, dataDir, values } = parts;
  const put = async (key: string, value: Uint8Array | null) => {
    if (value !== null && value.length > storageLimits.metaValueBytesMax) {
      throw new RangeError(`Cannot store "${key}": ${value.length} bytes are too many`);
    }
    await log.putMeta(key, value);
    if (value === null) values.delete(key);
    else values.set(key, value);
  };
  return {
    dataDir: dataDir.path,
    log,
    meta: {
      get: (key) => values.get(key),
      keys: (prefix) => [...values.keys()].filter((key) => key.startsWith(prefix)),
      put,
    },
    failure: log.failure,
    close: async () => {
      await log.close();
      dataDir.release();
    },
  };
}

export { StorageError };
