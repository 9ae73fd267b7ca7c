/**
 * A node with everything it needs: storage, network, groups, blobs, directory. It composes them and
 * ends them in the right order; each part does its own work.
 */

import { hostname } from "node:os";
import { join } from "node:path";
import { BlobStore } from "./blobs/blob_store.ts";
import { type Clock, systemClock } from "./clock.ts";
import { Counters, type MeshLog, silentLog } from "./counters.ts";
import { Directory } from "./directory/directory.ts";
import { GroupHost } from "./group/group_host.ts";
import type { NodeId } from "./raft/types.ts";
import { openStorage, type Storage } from "./storage/storage.ts";
import type { WorkerSource } from "./storage/types.ts";
import { MeshNode } from "./transport/mesh_node.ts";
import { encodeTicket } from "./transport/ticket.ts";

export interface MeshOptions {
  /** Created if need be; belongs to this process until `stop`. */
  readonly dataDir: string;
  /** Multiaddr texts, e.g. "/ip4/0.0.0.0/tcp/4001". */
  readonly listen: readonly string[];
  /** Further addresses under which others reach this node. */
  readonly announce?: readonly string[];
  /** For people; default: the machine's name. */
  readonly name?: string;
  /** 32 bytes; without it the stored key, or a new mesh if there is none. */
  readonly meshKey?: Uint8Array;
  /** Multiaddrs with /p2p/ID of members. */
  readonly bootstrap?: readonly string[];
  /** How to start the storage worker from a bundle. */
  readonly workerSource?: WorkerSource;
  readonly clock?: Clock;
  readonly log?: MeshLog;
}

export interface Mesh {
  readonly id: NodeId;
  readonly name: string;
  readonly key: Uint8Array;
  readonly storage: Storage;
  readonly node: MeshNode;
  readonly groups: GroupHost;
  readonly blobs: BlobStore;
  readonly directory: Directory;
  readonly counters: Counters;
  /** Key, identity and addresses of this node in one string, for a newcomer. */
  ticket(): string;
  /** Ends everything; never rejects. */
  stop(): Promise<void>;
}

/** Starts a node. */
export async function openMesh(options: MeshOptions): Promise<Mesh> {
  const clock = options.clock ?? systemClock();
  const log = options.log ?? silentLog;
  const counters = new Counters();
  const { dataDir, workerSource } = options;
  const storage = await openStorage({
    dataDir,
    clock,
    ...(workerSource === undefined ? {} : { workerSource }),
  });
  let node: MeshNode | null = null;
  try {
    const { listen, announce, meshKey, bootstrap } = options;
    node = await MeshNode.start({
      meta: storage.meta,
      clock,
      log,
      counters,
      listen,
      ...(announce === undefined ? {} : { announce }),
      ...(meshKey === undefined ? {} : { meshKey }),
      ...(bootstrap === undefined ? {} : { bootstrap }),
    });
    return compose({ options, clock, log, counters, storage, node });
  } catch (error) {
    await node?.stop();
    await storage.close();
    throw error;
  }
}

function compose(parts: {
  options: MeshOptions;
  clock: Clock;
  log: MeshLog;
  counters: Counters;
  storage: Storage;
  node: MeshNode;
}): Mesh {
  const { options, clock, log, counters, storage, node } = parts;
  const name = options.name ?? hostname();
  const blobs = BlobStore.open({
    path: join(storage.dataDir, "blobs"),
    source: {
      peers: () =>
        node
          .peers()
          .filter(({ connected }) => connected)
          .map(({ id }) => id),
      transfers: node.transfers,
    },
    log,
  });
  const groups = new GroupHost({
    store: storage.log,
    transport: node,
    refusals: node.refusals,
    clock,
    log,
  });
  const directory = new Directory({ node, name, clock, log });
  const end = async () => {
    directory.stop();
    await groups.stop();
    await blobs.close();
    await node.stop();
    await storage.close();
  };
  let ending: Promise<void> | null = null;
  const stop = () => {
    ending ??= end().catch((error: Error) => {
      log.error({ error: error.message }, "Stopping the node did not go cleanly");
    });
    return ending;
  };
  const { id, key } = node;
  const ticket = () => encodeTicket({ key, id, addrs: node.addresses() });
  return { id, key, name, storage, node, groups, blobs, directory, counters, ticket, stop };
}
