/**
 * The storage worker: one thread that holds one connection to the log database. It answers requests
 * in order. It is an entry point of its own and imports nothing of libp2p, so that it starts fast.
 */

import { parentPort, workerData } from "node:worker_threads";
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
    destroy: ({ group }) => {
      database.destroy(group);
      return null;
    },
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
  port.on("message", ({ id, name, request }: WorkerRequest) => {
    try {
      const result = handlers[name](request as never);
      reply({ id, result }, buffersOf(name, result));
    } catch (error) {
      fail(id, error);
    }
    if (name === "close") port.close();
  });
  reply({ id: 0, result: null });
}

run();
