/**
 * The local HTTP API on a Unix socket that only the node's owner may open. Translates between HTTP
 * and the daemon's parts; decides nothing by itself.
 */
import { chmodSync, rmSync } from "node:fs";
import { type FastifyInstance, fastify } from "fastify";
import type { Daemon } from "../daemon/daemon.ts";
import { problemOf } from "./problem.ts";
import { nodeRoutes } from "./routes_node.ts";
import { vmRoutes } from "./routes_vm.ts";
import { apiLimits } from "./schemas.ts";
import { apiSocketFile, apiSocketPath } from "./socket_path.ts";

export interface ApiServer {
  close(): Promise<void>;
}

export async function startApi(
  daemon: Daemon,
  options: { readonly dataDir: string },
): Promise<ApiServer> {
  const app = fastify({
    logger: false,
    bodyLimit: apiLimits.bodyBytesMax,
    requestTimeout: apiLimits.requestMs,
    forceCloseConnections: true,
    // Nothing is bent into shape: null stays null, an unknown field is an error.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
  });
  app.server.maxConnections = apiLimits.connectionsMax;
  app.setErrorHandler((error, _request, reply) => {
    const problem = problemOf(error);
    if (problem.status >= 500) daemon.log.error({ why: problem.detail }, "a request failed");
    return reply.status(problem.status).type("application/problem+json").send(problem);
  });
  app.setNotFoundHandler((request, reply) => {
    const error = Object.assign(new Error(`there is no ${request.method} ${request.url}`), {
      statusCode: 404,
    });
    return reply.status(404).type("application/problem+json").send(problemOf(error));
  });
  nodeRoutes(app, daemon, options);
  vmRoutes(app, daemon);
  await listen(app, options.dataDir);
  return {
    close: async () => {
      await app.close();
      rmSync(apiSocketFile(options.dataDir), { force: true });
    },
  };
}

/** The data directory is held by this process alone, so a socket found there is a dead one's. */
async function listen(app: FastifyInstance, dataDir: string): Promise<void> {
  rmSync(apiSocketFile(dataDir), { force: true });
  const socket = apiSocketPath(dataDir);
  try {
    await app.listen({ path: socket.path });
    chmodSync(apiSocketFile(dataDir), 0o600);
  } finally {
    socket.release();
  }
}
