/**
 * A node with everything it needs: storage, network, groups, blobs, directory. It composes them and
 * ends them in the right order; each part does its own work.
 */

import { hostname } from "node:os";
import { join as joinPath } from "node:path";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { BlobStore } from "./blobs/blob_store.ts";
import { type Clock, systemClock } from "./clock.ts";
import { Counters, type MeshLog, silentLog } from "./counters.ts";
import { Directory } from "./directory/directory.ts";
import { GroupHost } from "./group/group_host.ts";
import { Membership, type TicketOrder } from "./membership/membership.ts";
import type { MeshRole } from "./membership/roles.ts";
import { MembershipSync } from "./membership/sync.ts";
import type { NodeId } from "./raft/types.ts";
import { openStorage, type Storage } from "./storage/storage.ts";
import type { WorkerSource } from "./storage/types.ts";
import { type Gate, keyIsEnough } from "./transport/gate.ts";
import { loadIdentity, loadMeshKey } from "./transport/identity.ts";
import { MeshNode } from "./transport/mesh_node.ts";
import { RpcRemoteError } from "./transport/rpc.ts";
import { encodeTicket, type JoinTarget } from "./transport/ticket.ts";

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
  /** `join` is going to be called: a node without a mesh does not found one. */
  readonly joins?: boolean;
  /**
   * Who may have a connection: the members that tickets let in (the default), or whoever holds the
   * mesh key, for meshes whose nodes are all set up by one hand.
   */
  readonly admission?: "members" | "key";
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
  readonly membership: Membership;
  /** Whom everything is held against: the membership, or all that hold the key. */
  readonly gate: Gate;
  /** Has the node that role? In a mesh where the key is enough all have all. */
  may(id: NodeId, role: MeshRole): boolean;
  /** A ticket for newcomers: what they need to find this mesh and be let in, in one string. */
  createTicket(order: TicketOrder): Promise<string>;
  /** Joins the mesh of the target, or only connects to it if this node belongs there already. */
  join(target: JoinTarget, options?: { signal?: AbortSignal | undefined }): Promise<NodeId>;
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
    const membership = await openMembership(options, { storage, log });
    const gate = options.admission === "key" ? keyIsEnough : membership;
    node = await MeshNode.start({
      meta: storage.meta,
      gate,
      clock,
      log,
      counters,
      listen,
      ...(announce === undefined ? {} : { announce }),
      ...(meshKey === undefined ? {} : { meshKey }),
      ...(bootstrap === undefined ? {} : { bootstrap }),
    });
    return compose({ options, clock, log, counters, storage, node, membership, gate });
  } catch (error) {
    await node?.stop();
    await storage.close();
    throw error;
  }
}

async function openMembership(
  options: MeshOptions,
  parts: { storage: Storage; log: MeshLog },
): Promise<Membership> {
  const { meta } = parts.storage;
  const privateKey = await loadIdentity(meta);
  const { key } = await loadMeshKey(meta, options.meshKey);
  const self = peerIdFromPrivateKey(privateKey).toString();
  const init = { self, privateKey, meshKey: key, meta, wallMs: Date.now, log: parts.log };
  return Membership.open(init, { joins: options.joins ?? false });
}

function compose(parts: {
  options: MeshOptions;
  clock: Clock;
  log: MeshLog;
  counters: Counters;
  storage: Storage;
  node: MeshNode;
  membership: Membership;
  gate: Gate;
}): Mesh {
  const { options, clock, log, counters, storage, node, membership, gate } = parts;
  const name = options.name ?? hostname();
  const blobs = BlobStore.open({
    path: joinPath(storage.dataDir, "blobs"),
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
  const sync = new MembershipSync({ membership, node, clock, prng: { next: Math.random }, log });
  const end = async () => {
    sync.stop();
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
  const createTicket = async (order: TicketOrder) => {
    const { secret } = await membership.createTicket(order);
    const invitation = { secret, root: membership.root ?? id };
    return encodeTicket({ key, invitation, id, addrs: node.addresses() });
  };
  const join: Mesh["join"] = async (target, given = {}) => {
    if (!gate.isMember(id)) await becomeMember({ node, sync }, target, given.signal);
    return node.join(target.addrs, given);
  };
  const may = (node: NodeId, role: MeshRole) => gate === keyIsEnough || membership.has(node, role);
  return {
    ...{ id, key, name, storage, node, groups, blobs, directory, counters },
    ...{ membership, gate, may, createTicket, join, stop },
  };
}

/** Shows the ticket to the member that it names. */
async function becomeMember(
  parts: { node: MeshNode; sync: MembershipSync },
  target: JoinTarget,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { node, sync } = parts;
  const where = target.addrs[0] ?? target.id;
  if (target.invitation === null) {
    throw new Error(`Cannot join "${where}": a ticket is needed; ask a member for one`);
  }
  const { id, leave } = await node.knock(target.addrs, { signal });
  try {
    await sync.join(id, { ...target.invitation, signal });
    await node.keepKey();
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    const why = error instanceof RpcRemoteError ? error.message : `${where} refused this node`;
    const remedy = why.includes(";")
      ? ""
      : "; the ticket may be used up or expired, ask for a new one";
    throw new Error(`Cannot join "${where}": ${why}${remedy}`, { cause: error });
  } finally {
    await leave();
  }
}
