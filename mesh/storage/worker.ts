/**
 * The storage worker: one thread that holds one connection to the log database. It answers requests
 * in order. It is an entry point of its own and imports nothing of libp2p, so that it starts fast.
 *
 * Between requests it sleeps on the count of them, not in an event loop: it then wakes in a third
 * of the time, and a commit waits for two of these threads. So nothing that needs the event loop
 * (timers, promises of input and output) works in here.
 */

import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { LogDatabase, LogDatabaseError } from "./log_database.ts";
import type {
  StorageFault,
  WorkerCallName,
  WorkerCalls,
  WorkerReply,
  WorkerRequest,
  WorkerSetup,
} from "./types.ts";

type Handlers = {
  [Name in WorkerCallName]: (request: WorkerCalls[Name]["request"]) => WorkerCalls[Name]["result"];
};

function handlersOf(database: LogDatabase): Handlers {
  return {
    write: ({ operations, data }) => {
      database.write(operations, data);
      return null;
    },
    create: ({ id, members, info }) => database.create(id, members, info),
    destroy: ({ group, fate }) => {
      database.destroy(group, fate);
      return null;
    },
    revive: ({ group, members, info }) => {
      database.revive(group, members, info);
      return null;
    },
    cut: ({ group, cut, members }) => {
      database.cut(group, cut, members);
      return null;
    },
    seed: ({ group, ...seed }) => {
      database.seed(group, seed);
      return null;
    },
    sweepCut: ({ group, rowsMax }) => database.sweepCut(group, rowsMax),
    sweep: ({ group, rowsMax }) => database.sweep(group, rowsMax),
    groups: () => database.groups(),
    meta: () => database.meta(),
    load: ({ group }) => database.load(group),
    read: ({ group, from, to, bytesMax }) => database.read(group, from, { to, bytesMax }),
    checkpoint: () => database.checkpoint(),
    close: () => {
      database.close();
      return null;
    },
  };
}

function buffersOf(name: WorkerCallName, result: unknown): ArrayBuffer[] {
  if (name !== "read") return [];
  return [(result as WorkerCalls["read"]["result"]).data.buffer as ArrayBuffer];
}

function faultOf(error: unknown): StorageFault {
  return error instanceof LogDatabaseError ? error.fault : "other";
}

function run(): void {
  const port = parentPort;
  if (port === null) throw new Error("Cannot run the storage worker: it is not in a worker thread");
  const setup = workerData as WorkerSetup;
  let handlers: Handlers;
  const reply = (message: WorkerReply, transfer: ArrayBuffer[] = []) =>
    port.postMessage(message, transfer);
  const fail = (id: number, error: unknown) => {
    const text = error instanceof Error ? error.message : String(error);
    reply({ id, error: { message: text, fault: faultOf(error) } });
  };
  try {
    handlers = handlersOf(new LogDatabase(setup.path, { create: setup.role === "writer" }));
  } catch (error) {
    // Request 0 is the opening itself.
    fail(0, error);
    port.close();
    return;
  }
  reply({ id: 0, result: null });
  const posted = new Int32Array(setup.posted);
  for (;;) {
    // Counted before it looks: what is posted while it looks is not slept over.
    const seen = Atomics.load(posted, 0);
    for (;;) {
      const next = receiveMessageOnPort(port);
      if (next === undefined) break;
      const { id, name, request } = next.message as WorkerRequest;
      try {
        const result = handlers[name](request as never);
        reply({ id, result }, buffersOf(name, result));
      } catch (error) {
        fail(id, error);
      }
      if (name === "close") {
        port.close();
        return;
      }
    }
    Atomics.wait(posted, 0, seen);
  }
}

run();
