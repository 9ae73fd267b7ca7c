/**
 * The HTTP API as an application: its routes, its document, and how errors are told. The same
 * application is made for the Unix socket and for TCP; what differs is who may ask, and how often.
 */
import rateLimit from "@fastify/rate-limit";
import swagger, { type FastifyDynamicSwaggerOptions } from "@fastify/swagger";
import websocket from "@fastify/websocket";
import { type FastifyInstance, type FastifyRequest, fastify } from "fastify";
import type { DaemonParts } from "../daemon/daemon.ts";
import { version } from "../version.ts";
import type { Access } from "./access.ts";
import { type GuardOptions, guardSocket, guardTcp } from "./guard.ts";
import type { Tls } from "./listen_options.ts";
import { ApiError, problemOf } from "./problem.ts";
import { accessRoutes } from "./routes_access.ts";
import { dashboardRoutes } from "./routes_dashboard.ts";
import { eventRoutes } from "./routes_events.ts";
import { membershipRoutes } from "./routes_membership.ts";
import { nodeRoutes } from "./routes_node.ts";
import { placementRoutes } from "./routes_placement.ts";
import { socketRoutes } from "./routes_socket.ts";
import { vmRoutes } from "./routes_vm.ts";
import { apiLimits } from "./schemas.ts";

export interface AppOptions {
  readonly dataDir: string;
  /** Whom the routes sign in; null without TCP. */
  readonly access: Access | null;
  readonly apiUrl: () => string | null;
  /** For TCP; null on the Unix socket. */
  readonly guard: GuardOptions | null;
  readonly tls: Tls | null;
}

export async function makeApp(daemon: DaemonParts, options: AppOptions): Promise<FastifyInstance> {
  const app = makeServer(options.tls);
  app.server.maxConnections = apiLimits.connectionsMax;
  reportErrors(app, daemon);
  measure(app, daemon);
  app.addHook("onRequest", async (_request, reply) => {
    void reply.header("x-content-type-options", "nosniff");
  });
  if (options.guard !== null) await limitRate(app);
  await app.register(websocket, { options: { maxPayload: apiLimits.socketMessageBytesMax } });
  await app.register(swagger, { openapi: document });
  if (options.guard === null) guardSocket(app);
  else guardTcp(app, options.guard);
  nodeRoutes(app, daemon, options);
  membershipRoutes(app, daemon);
  placementRoutes(app, daemon);
  vmRoutes(app, daemon);
  eventRoutes(app, daemon);
  socketRoutes(app, daemon);
  accessRoutes(app, options);
  const hidden = { schema: { hide: true }, config: { open: true } };
  app.get("/openapi.json", hidden, () => app.swagger());
  if (options.guard !== null) dashboardRoutes(app);
  return app;
}

const document: NonNullable<FastifyDynamicSwaggerOptions["openapi"]> = {
  openapi: "3.1.0",
  info: {
    title: "node-mesh",
    version,
    description:
      "VMs that survive the failure of any machine. Any node answers for any VM. Errors are " +
      "problems of RFC 9457 whose types, urn:node-mesh:problem:*, stay what they are.",
  },
  tags: [
    { name: "node", description: "This node and the mesh" },
    { name: "membership", description: "Who belongs to the mesh, and what for" },
    { name: "vms", description: "Virtual machines" },
    { name: "console", description: "Consoles of VMs" },
    { name: "events", description: "What changes" },
    { name: "access", description: "Signing in" },
  ],
  components: {
    securitySchemes: {
      token: { type: "http", scheme: "bearer", description: "what is in the node's api.token" },
      session: { type: "apiKey", in: "cookie", name: "node_mesh_session" },
    },
  },
  security: [{ token: [] }, { session: [] }],
};

function makeServer(tls: Tls | null): FastifyInstance {
  const common = {
    logger: false,
    bodyLimit: apiLimits.bodyBytesMax,
    requestTimeout: apiLimits.requestMs,
    forceCloseConnections: true,
    // Nothing is bent into shape: null stays null, an unknown field is an error.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
  } as const;
  if (tls === null) return fastify(common);
  return fastify({ ...common, https: tls }) as unknown as FastifyInstance;
}

function reportErrors(app: FastifyInstance, daemon: DaemonParts): void {
  app.setErrorHandler((error, _request, reply) => {
    const problem = problemOf(error);
    if (problem.status >= 500 && problem.status !== 503) {
      daemon.log.error({ why: problem.detail }, "a request failed");
    }
    if (problem.status === 401) void reply.header("www-authenticate", "Bearer");
    return reply.status(problem.status).type("application/problem+json").send(problem);
  });
  app.setNotFoundHandler((request, reply) => {
    const what = `${request.method} ${request.url.split("?")[0]?.slice(0, 200)}`;
    const error = Object.assign(new Error(`there is no ${what}; see /openapi.json`), {
      statusCode: 404,
    });
    return reply.status(404).type("application/problem+json").send(problemOf(error));
  });
}

/** Streams are left out: how long they last says nothing about this node. */
function measure(app: FastifyInstance, daemon: DaemonParts): void {
  app.addHook("onResponse", async (request, reply) => {
    const labels = {
      method: request.method,
      route: routeOf(request),
      status: String(reply.statusCode),
    };
    if (reply.getHeader("content-type") === undefined) return;
    daemon.observatory.metrics.requested(labels, reply.elapsedTime);
  });
}

function routeOf(request: FastifyRequest): string {
  return request.routeOptions.url ?? "none";
}

async function limitRate(app: FastifyInstance): Promise<void> {
  await app.register(rateLimit, {
    global: true,
    max: apiLimits.requestsMax,
    timeWindow: apiLimits.requestsPeriodMs,
    errorResponseBuilder: (_request, context) =>
      new ApiError("too_many", `Cannot answer so many requests: try again in ${context.after}`),
  });
}
