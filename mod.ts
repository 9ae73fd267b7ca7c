/**
 * node-mesh as a library: run a node inside a program of one's own, talk to a node that runs
 * elsewhere on this machine, or read recorded logs.
 *
 * ```ts
 * const listen = ["/ip4/0.0.0.0/tcp/4001"];
 * const node = await startDaemon({ dataDir: "mesh", listen, name: "a" });
 * const client = new ApiClient("mesh");
 * console.log(await client.vms());
 * await node.stop();
 * ```
 *
 * @module
 */

export { ApiClient, NodeGoneError } from "./src/api/client.ts";
export type { NodeView, Status, VmRequest, VmView } from "./src/api/schemas.ts";
export { type Daemon, type DaemonOptions, startDaemon } from "./src/daemon/daemon.ts";
export {
  type Chunk,
  type ChunkHead,
  decodeChunk,
  decodeChunkHead,
  decodeHeader,
  LogFormatError,
  type LogHeader,
} from "./src/log/log_schema.ts";
export { UserError } from "./src/user_error.ts";
export { version } from "./src/version.ts";
