/** The console of a VM by WebSocket, for browsers. */
import type { Static } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { DaemonParts } from "../daemon/daemon.ts";
import type { VmSpec } from "../vm/vm_spec.ts";
import { serveConsole } from "./console_socket.ts";
import { operation } from "./operation.ts";
import { ApiError } from "./problem.ts";
import { SocketQuerySchema, VmParamsSchema } from "./schemas.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** The VM whose console is opened; found before the protocol is switched. */
    consoleSpec: VmSpec | null;
  }
}

type Params = Static<typeof VmParamsSchema>;
type Query = Static<typeof SocketQuerySchema>;

export function socketRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  app.decorateRequest("consoleSpec", null);
  const socket = operation({
    tag: "console",
    id: "openConsole",
    summary: "A VM's console by WebSocket",
    description:
      "Sends binary messages: the offset of the first byte as 8 bytes, big-endian, then output. " +
      'Takes {"kind":"input","source","seq","data"} and answers {"kind":"ack","seq"} when it is ' +
      'committed, or {"kind":"problem","seq","problem"}; {"kind":"ended"} is the last message.',
    params: VmParamsSchema,
    querystring: SocketQuerySchema,
    answers: { 101: { says: "The protocol is switched." } },
  });
  app.route<{ Params: Params; Querystring: Query }>({
    method: "GET",
    url: "/v1/vms/:name/console/socket",
    ...socket,
    preHandler: async (request) => {
      if (!request.ws) return;
      const { name } = request.params;
      request.consoleSpec = await daemon.router.expectOwn(name, "open the console of VM");
    },
    handler: () => {
      const remedy = "ask for an upgrade, or use /v1/vms/NAME/console";
      throw new ApiError("unsupported", `Cannot open a console: this is a WebSocket; ${remedy}`);
    },
    wsHandler: (connection, request) => {
      const spec = request.consoleSpec;
      const offset = Number((request.query as Query).offset);
      if (spec === null) connection.terminate();
      else serveConsole(connection, daemon, { spec, offset });
    },
  });
}
