/** The VMs in the local API: any node answers for any VM. */

import { type Static, Type } from "@sinclair/typebox";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { readConsole } from "../daemon/console_reader.ts";
import type { Daemon } from "../daemon/daemon.ts";
import { cannot, oneLine } from "../user_error.ts";
import { sendLines } from "./ndjson.ts";
import { problemOf } from "./problem.ts";
import {
  apiLimits,
  type ConsoleLine,
  ConsoleQuerySchema,
  type CreateLine,
  type Input,
  InputSchema,
  VmParamsSchema,
  type VmRequest,
  VmRequestSchema,
  VmsSchema,
  VmViewSchema,
} from "./schemas.ts";

const done = Type.Object({});
type Params = Static<typeof VmParamsSchema>;
type ConsoleQuery = Static<typeof ConsoleQuerySchema>;

export function vmRoutes(app: FastifyInstance, daemon: Daemon): void {
  const { router } = daemon;
  const params = VmParamsSchema;
  app.get("/v1/vms", { schema: { response: { 200: VmsSchema } } }, async () => ({
    vms: await router.list(),
  }));
  app.post<{ Body: VmRequest }>(
    "/v1/vms",
    { schema: { body: VmRequestSchema } },
    (request, reply) => stream(request, reply, (signal) => create(daemon, request.body, signal)),
  );
  app.get<{ Params: Params }>(
    "/v1/vms/:name",
    { schema: { params, response: { 200: VmViewSchema } } },
    async (request) => router.view(await router.expect(request.params.name, "show VM")),
  );
  app.delete<{ Params: Params }>(
    "/v1/vms/:name",
    { schema: { params, response: { 200: done } } },
    async (request, reply) => {
      const spec = await router.expect(request.params.name, "remove VM");
      await router.remove(spec, { signal: signalOf(reply) });
      return {};
    },
  );
  app.post<{ Params: Params }>(
    "/v1/vms/:name/stop",
    { schema: { params, response: { 200: done } } },
    async (request, reply) => {
      const spec = await router.expect(request.params.name, "stop VM");
      await router.stop(spec, { signal: signalOf(reply) });
      return {};
    },
  );
  app.post<{ Params: Params; Body: Input }>(
    "/v1/vms/:name/input",
    { schema: { params, body: InputSchema, response: { 200: done } } },
    async (request, reply) => {
      const spec = await router.expect(request.params.name, "type into VM");
      const { source, seq, data } = request.body;
      const message = { source, seq, data: Buffer.from(data, "base64") };
      await router.input(spec, message, { signal: signalOf(reply) });
      return {};
    },
  );
  app.get<{ Params: Params; Querystring: ConsoleQuery }>(
    "/v1/vms/:name/console",
    { schema: { params, querystring: ConsoleQuerySchema } },
    async (request, reply) => {
      const spec = await router.expect(request.params.name, "read the console of VM");
      const offset = Number(request.query.offset);
      const follow = request.query.follow === "true";
      return stream(request, reply, (signal) =>
        consoleLines(daemon, { spec, offset, follow, signal }),
      );
    },
  );
}

/** Aborted when the client has left. */
function signalOf(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once("close", () => gone.abort());
  return gone.signal;
}

async function stream(
  _request: FastifyRequest,
  reply: FastifyReply,
  lines: (signal: AbortSignal) => AsyncIterable<object>,
): Promise<void> {
  const signal = signalOf(reply);
  reply.hijack();
  try {
    await sendLines(reply.raw, lines(signal), signal);
  } catch {
    reply.raw.destroy();
  }
}

async function* consoleLines(
  daemon: Daemon,
  query: {
    readonly spec: Parameters<typeof readConsole>[0]["spec"];
    readonly offset: number;
    readonly follow: boolean;
    readonly signal: AbortSignal;
  },
): AsyncGenerator<ConsoleLine> {
  const { mesh, router } = daemon;
  try {
    for await (const piece of readConsole({ mesh, router, spec: query.spec }, query)) {
      const { offset, closed } = piece;
      yield { offset, data: Buffer.from(piece.bytes).toString("base64"), closed };
    }
  } catch (error) {
    const refusal = { why: oneLine(error), remedy: "see: node-mesh vm show" };
    yield { problem: problemOf(cannot("read the console of VM", query.spec.name, refusal)) };
  }
}

/** Progress as it comes, then the VM or the problem. A client that leaves ends the attempt. */
async function* create(
  daemon: Daemon,
  request: VmRequest,
  left: AbortSignal,
): AsyncGenerator<CreateLine> {
  const signal = AbortSignal.any([left, AbortSignal.timeout(apiLimits.createMs)]);
  const lines: CreateLine[] = [];
  let wake = (): void => {};
  let finished = false;
  const push = (line: CreateLine): void => {
    lines.push(line);
    wake();
  };
  void daemon.creator
    .create(request, { signal, onProgress: (progress) => push({ progress }) })
    .then(
      (vm) => push({ vm }),
      (error: unknown) => push({ problem: problemOf(error) }),
    )
    .finally(() => {
      finished = true;
      wake();
    });
  while (!finished || lines.length > 0) {
    const line = lines.shift();
    if (line !== undefined) yield line;
    else {
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (finished || lines.length > 0) resolve();
      });
    }
  }
}
