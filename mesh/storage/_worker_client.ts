/**
 * The main thread's end of a storage worker: calls in, promises out. When the thread dies every
 * pending and later call is rejected; nothing is ever left waiting.
 */

import { Worker } from "node:worker_threads";
import type {
  StorageFault,
  WorkerCallName,
  WorkerCalls,
  WorkerReply,
  WorkerSetup,
  WorkerSource,
} from "./types.ts";

/** A storage fault; the owner branches on `fault`. */
export class StorageError extends Error {
  readonly fault: StorageFault;
  constructor(message: string, fault: StorageFault) {
    super(message);
    this.name = "StorageError";
    this.fault = fault;
  }
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Starts the worker from its own source file; bundles pass another source. */
export const defaultWorkerSource: WorkerSource = (options) =>
  new Worker(new URL("./worker.ts", import.meta.url), options);

export class WorkerClient {
  readonly #worker: Worker;
  readonly #posted: Int32Array;
  readonly #pending = new Map<number, Pending>();
  readonly #ready: Promise<unknown>;
  readonly #exited: Promise<void>;
  #nextId = 1;
  #dead: StorageError | null = null;

  private constructor(place: Omit<WorkerSetup, "posted">, source: WorkerSource) {
    const posted = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    this.#posted = new Int32Array(posted);
    const setup: WorkerSetup = { ...place, posted };
    // Flags of the main thread (--input-type, --test) would be wrong for the worker's file.
    const name = `storage ${setup.role}`;
    this.#worker = source({ workerData: setup, name, execArgv: [] });
    this.#ready = new Promise((resolve, reject) => this.#pending.set(0, { resolve, reject }));
    this.#worker.on("message", (reply: WorkerReply) => this.#onReply(reply));
    this.#worker.on("error", (error: Error) => this.#onDeath(error.message, "other"));
    this.#exited = new Promise((resolve) => {
      this.#worker.on("exit", (code) => {
        this.#onDeath(`its thread ended with ${code}`, "closed");
        resolve();
      });
    });
  }

  static async open(
    place: Omit<WorkerSetup, "posted">,
    source: WorkerSource,
  ): Promise<WorkerClient> {
    const client = new WorkerClient(place, source);
    try {
      await client.#ready;
    } catch (error) {
      await client.terminate();
      throw error;
    }
    return client;
  }

  call<Name extends WorkerCallName>(
    name: Name,
    request: WorkerCalls[Name]["request"],
    transfer: ArrayBuffer[] = [],
  ): Promise<WorkerCalls[Name]["result"]> {
    if (this.#dead !== null) return Promise.reject(this.#dead);
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as Pending["resolve"], reject });
      this.#worker.postMessage({ id, name, request }, transfer);
      Atomics.add(this.#posted, 0, 1);
      Atomics.notify(this.#posted, 0);
    });
  }

  #onReply(reply: WorkerReply): void {
    const pending = this.#pending.get(reply.id);
    if (pending === undefined) return;
    this.#pending.delete(reply.id);
    if (reply.error === undefined) pending.resolve(reply.result);
    else pending.reject(new StorageError(reply.error.message, reply.error.fault));
  }

  #onDeath(why: string, fault: StorageFault): void {
    this.#dead ??= new StorageError(`Cannot reach the log database: ${why}`, fault);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(this.#dead);
  }

  /** Closes the database and waits until the thread is gone. */
  async close(): Promise<void> {
    await this.call("close", null).catch(() => null);
    await this.terminate();
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate();
    await this.#exited;
  }
}
