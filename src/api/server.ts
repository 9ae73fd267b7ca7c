/**
 * The HTTP API where it listens: on a Unix socket that only the node's owner may open, and on TCP
 * where the node was told so. Decides nothing by itself.
 */
import { X509Certificate } from "node:crypto";
import { chmodSync, rmSync } from "node:fs";
import type { FastifyInstance } from "fastify";
import type { DaemonParts } from "../daemon/daemon.ts";
import { cannot, oneLine } from "../user_error.ts";
import { Access, loadToken } from "./access.ts";
import { makeApp } from "./app.ts";
import { type ApiOptions, addressText, hostCheck, type Tls, tlsOf } from "./listen_options.ts";
import { apiSocketFile, apiSocketPath } from "./socket_path.ts";

export type { ApiOptions } from "./listen_options.ts";

export interface ApiServer {
  /** `http://127.0.0.1:7070`; null without TCP. */
  readonly url: string | null;
  close(): Promise<void>;
}

export async function startApi(
  daemon: DaemonParts,
  options: { readonly dataDir: string; readonly tcp?: ApiOptions },
): Promise<ApiServer> {
  const { dataDir, tcp } = options;
  const tls = tcp === undefined ? null : tlsOf(tcp);
  const access = tcp === undefined ? null : new Access(loadToken(dataDir), { now: Date.now });
  let url: string | null = null;
  const common = { dataDir, access, apiUrl: () => url };
  const apps: FastifyInstance[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(apps.map((app) => app.close()));
    rmSync(apiSocketFile(dataDir), { force: true });
  };
  try {
    if (tcp !== undefined && access !== null) {
      const guard = { access, isOwnHost: hostCheck(tcp, tls), secure: tls !== null };
      const app = await makeApp(daemon, { ...common, guard, tls });
      apps.push(app);
      const port = await listenTcp(app, tcp);
      const open = tcp.host === "0.0.0.0" || tcp.host === "::";
      const host = open ? (nameIn(tls) ?? "localhost") : tcp.host;
      url = `${tls === null ? "http" : "https"}://${addressText({ host, port })}`;
    }
    const app = await makeApp(daemon, { ...common, guard: null, tls: null });
    apps.push(app);
    await listenUnix(app, dataDir);
  } catch (error) {
    await close();
    throw error;
  }
  return { url, close };
}

/** The first name that a certificate is for: under another one a browser would warn. */
function nameIn(tls: Tls | null): string | null {
  if (tls === null) return null;
  const names = new X509Certificate(tls.cert).subjectAltName ?? "";
  return /\bDNS:([\w.-]+)/.exec(names)?.[1] ?? null;
}

/** Answers the port. */
async function listenTcp(app: FastifyInstance, options: ApiOptions): Promise<number> {
  try {
    await app.listen({ host: options.host, port: options.port });
  } catch (error) {
    const inUse = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
    throw cannot("open the API on", addressText(options), {
      why: inUse ? "the port is in use" : oneLine(error),
      remedy: "choose another one with --api",
    });
  }
  const address = app.server.address();
  return typeof address === "object" && address !== null ? address.port : options.port;
}

/** The data directory is held by this process alone, so a socket found there is a dead one's. */
async function listenUnix(app: FastifyInstance, dataDir: string): Promise<void> {
  rmSync(apiSocketFile(dataDir), { force: true });
  const socket = apiSocketPath(dataDir);
  try {
    await app.listen({ path: socket.path });
    chmodSync(apiSocketFile(dataDir), 0o600);
  } finally {
    socket.release();
  }
}
