/** The VMs in the API: any node answers for any VM. */
import type { Static } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { readConsole } from "../daemon/console_reader.ts";
import type { DaemonParts } from "../daemon/daemon.ts";
import { cannot, oneLine } from "../user_error.ts";
import type { VmSpec } from "../vm/vm_spec.ts";
import { IdempotentAnswers } from "./idempotency.ts";
import { operation, signalOf } from "./operation.ts";
import { problemOf } from "./problem.ts";
import { progressLines, stream } from "./progress_lines.ts";
import {
  apiLimits,
  type ConsoleLine,
  ConsoleLineSchema,
  ConsoleQuerySchema,
  CreateHeadersSchema,
  CreateLineSchema,
  DoneSchema,
  type Input,
  InputSchema,
  type PageQuery,
  PageQuerySchema,
  pageOf,
  StoppedSchema,
  type StopQuery,
  StopQuerySchema,
  VmHistorySchema,
  VmParamsSchema,
  type VmRequest,
  VmRequestSchema,
  VmsSchema,
  type VmView,
  VmViewSchema,
} from "./schemas.ts";

type Params = Static<typeof VmParamsSchema>;
type ConsoleQuery = Static<typeof ConsoleQuerySchema>;
type CreateHeaders = Static<typeof CreateHeadersSchema>;

const vms = { tag: "vms" } as const;
const params = VmParamsSchema;
const done = { 200: { says: "It is done.", schema: DoneSchema } };
const ndjson = "application/x-ndjson";

export function vmRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  readRoutes(app, daemon);
  createRoute(app, daemon);
  actionRoutes(app, daemon);
  consoleRoutes(app, daemon);
}

function readRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  const { router } = daemon;
  const list = operation({
    ...vms,
    id: "listVms",
    summary: "The VMs of all nodes that answer",
    querystring: PageQuerySchema,
    answers: { 200: { says: "A page of VMs, by name.", schema: VmsSchema } },
  });
  app.get<{ Querystring: PageQuery }>("/v1/vms", list, async (request) => {
    const all = await router.list();
    const page = pageOf(all, request.query, ({ name, id }) => `${name} ${id}`);
    return { vms: page.rows, next: page.next };
  });
  const show = operation({
    ...vms,
    id: "getVm",
    summary: "A VM and where its copies are",
    params,
    answers: { 200: { says: "The VM.", schema: VmViewSchema } },
  });
  app.get<{ Params: Params }>("/v1/vms/:name", show, async (request) =>
    router.view(await router.expect(request.params.name, "show VM")),
  );
  const history = operation({
    ...vms,
    id: "getVmHistory",
    summary: "Its last ten minutes, and its switches",
    description: "In the memory of its members: what a node saw is gone when the node ends.",
    params,
    answers: { 200: { says: "Samples and switches, oldest first.", schema: VmHistorySchema } },
  });
  app.get<{ Params: Params }>("/v1/vms/:name/history", history, async (request) =>
    daemon.observatory.history(await router.expect(request.params.name, "show VM")),
  );
}

function createRoute(app: FastifyInstance, daemon: DaemonParts): void {
  const answers = new IdempotentAnswers<VmView>({ now: Date.now });
  const make = operation({
    ...vms,
    id: "createVm",
    summary: "Start a new VM",
    description:
      "Answers when it runs. With `Accept: application/x-ndjson` it tells its progress as lines, " +
      "the last of which is the VM or a problem. Paths are those of the node that is asked.",
    headers: CreateHeadersSchema,
    body: VmRequestSchema,
    answers: {
      200: {
        says: "Lines of progress.",
        types: { [ndjson]: CreateLineSchema },
      },
      201: { says: "The VM runs.", schema: VmViewSchema },
    },
  });
  app.post<{ Body: VmRequest; Headers: CreateHeaders }>("/v1/vms", make, async (request, reply) => {
    const key = request.headers["idempotency-key"];
    const left = signalOf(reply);
    const create = (onProgress: (text: string) => void): Promise<VmView> => {
      if (key === undefined) return createVm(daemon, request.body, { left, onProgress });
      // Who asked may have lost the connection, and asks again: its leaving ends nothing.
      const never = new AbortController().signal;
      return answers.answer(key, request.body, {
        make: () => createVm(daemon, request.body, { left: never, onProgress }),
      });
    };
    if (request.headers.accept?.includes(ndjson) === true) {
      return stream(reply, left, progressLines(create));
    }
    const vm = await create(() => {});
    return reply.status(201).header("location", `/v1/vms/${vm.id}`).send(vm);
  });
}

function createVm(
  daemon: DaemonParts,
  request: VmRequest,
  options: { readonly left: AbortSignal; readonly onProgress: (text: string) => void },
): Promise<VmView> {
  const { left, onProgress } = options;
  const signal = AbortSignal.any([left, AbortSignal.timeout(apiLimits.createMs)]);
  return daemon.creator.create(request, { signal, onProgress });
}

function actionRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  const { router } = daemon;
  const remove = operation({
    ...vms,
    id: "removeVm",
    summary: "End a VM and forget it, with its log",
    params,
    answers: done,
  });
  app.delete<{ Params: Params }>("/v1/vms/:name", remove, async (request, reply) => {
    const spec = await router.expectOwn(request.params.name, "remove VM");
    await router.remove(spec, { signal: signalOf(reply) });
    return {};
  });
  const stop = operation({
    ...vms,
    id: "stopVm",
    summary: "End a VM for good; its console stays",
    description: "Presses its power button and waits. `timeout_s=0`: takes its power away at once.",
    params,
    querystring: StopQuerySchema,
    answers: { 200: { says: "It has ended.", schema: StoppedSchema } },
  });
  app.post<{ Params: Params; Querystring: StopQuery }>(
    "/v1/vms/:name/stop",
    stop,
    async (request, reply) => {
      const spec = await router.expectOwn(request.params.name, "stop VM");
      const buttonMs = Number(request.query.timeout_s) * 1000;
      return await router.stop(spec, { signal: signalOf(reply), buttonMs });
    },
  );
}

function consoleRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  const { router } = daemon;
  const input = operation({
    tag: "console",
    id: "typeIntoVm",
    summary: "Type into a VM's console",
    description:
      "Answers when the input is committed. The same source and number again is one input, so a " +
      "client that heard nothing sends it again.",
    params,
    body: InputSchema,
    answers: done,
  });
  app.post<{ Params: Params; Body: Input }>(
    "/v1/vms/:name/input",
    input,
    async (request, reply) => {
      const spec = await router.expectOwn(request.params.name, "type into VM");
      const { source, seq, data } = request.body;
      const message = { source, seq, data: Buffer.from(data, "base64") };
      await router.input(spec, message, { signal: signalOf(reply) });
      return {};
    },
  );
  const read = operation({
    tag: "console",
    id: "readConsole",
    summary: "What a VM wrote to its console, from an offset on",
    description: "With `follow=true` until the VM ends, through every switch, each byte once.",
    params,
    querystring: ConsoleQuerySchema,
    answers: { 200: { says: "Lines of JSON.", type: ndjson, schema: ConsoleLineSchema } },
  });
  app.get<{ Params: Params; Querystring: ConsoleQuery }>(
    "/v1/vms/:name/console",
    read,
    async (request, reply) => {
      const spec = await router.expectOwn(request.params.name, "read the console of VM");
      const offset = Number(request.query.offset);
      const follow = request.query.follow === "true";
      const signal = signalOf(reply);
      return stream(reply, signal, consoleLines(daemon, { spec, offset, follow, signal }));
    },
  );
}

async function* consoleLines(
  daemon: DaemonParts,
  query: {
    readonly spec: VmSpec;
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
