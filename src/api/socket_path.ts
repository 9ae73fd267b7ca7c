/**
 * Where a node's local API listens. A Unix socket's path is limited to 107 bytes; a data directory
 * deeper than that is reached through an open handle of it.
 */
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";

const socketName = "api.sock";
const pathBytesMax = 107;

export interface SocketPath {
  readonly path: string;
  /** To be called when the socket is bound or connected. */
  release(): void;
}

export function apiSocketFile(dataDir: string): string {
  return join(dataDir, socketName);
}

export function apiSocketPath(dataDir: string): SocketPath {
  const path = apiSocketFile(dataDir);
  if (Buffer.byteLength(path) <= pathBytesMax) return { path, release: () => {} };
  const handle = openSync(dataDir, "r");
  return { path: `/proc/self/fd/${handle}/${socketName}`, release: () => closeSync(handle) };
}
