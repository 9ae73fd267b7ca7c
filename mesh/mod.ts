/**
 * The mesh: nodes that know each other, groups that keep a log in agreement, blobs that travel by
 * their hash, and a directory of hints. `openMesh` starts a node with all of it.
 *
 * @module
 */

export * from "./blobs/blob_store.ts";
export { type Clock, systemClock, type Timer } from "./clock.ts";
export { Counters, type MeshLog, silentLog } from "./counters.ts";
export * from "./directory/directory.ts";
export { type GoneListener, GroupHost, type GroupSpec } from "./group/group_host.ts";
export type * from "./group/types.ts";
export * from "./limits.ts";
export type { MeshMember, TicketState } from "./membership/member_state.ts";
export {
  ForbiddenError,
  Membership,
  type TicketOrder,
  whyUnusable,
} from "./membership/membership.ts";
export { type MeshRole, meshRoles } from "./membership/roles.ts";
export { type Mesh, type MeshOptions, openMesh } from "./mesh.ts";
export { DEFAULT_LIMITS as RAFT_LIMITS } from "./raft/mod.ts";
export type * from "./raft/types.ts";
export { type MetaStore, openStorage, type Storage, StorageError } from "./storage/storage.ts";
export type { LogCut, WorkerSource } from "./storage/types.ts";
export { type Gate, keyIsEnough } from "./transport/gate.ts";
export { generateMeshKey, meshKeyFromText, meshKeyToText } from "./transport/mesh_key.ts";
export {
  MeshNode,
  type MeshNodeOptions,
  type PeerEvent,
  type PeerStatus,
} from "./transport/mesh_node.ts";
export {
  defineRpc,
  defineRpcStream,
  Rpc,
  type RpcContext,
  type RpcMethod,
  RpcRemoteError,
  type RpcStreamMethod,
  RpcUnreachableError,
} from "./transport/rpc.ts";
export {
  decodeTicket,
  encodeTicket,
  type Invitation,
  isTicket,
  type JoinTarget,
  parseJoinTarget,
} from "./transport/ticket.ts";
