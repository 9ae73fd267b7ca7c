/** Where VMs are, and what moves them, in the API. */
import { type Static, Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { Member } from "../../mesh/mod.ts";
import type { DaemonParts } from "../daemon/daemon.ts";
import { NODE_DRAIN, VM_REPORT } from "../daemon/member_rpc.ts";
import { explainPlacement, PlacementSchema } from "../daemon/placement_view.ts";
import { membersNow } from "../daemon/vm_view.ts";
import { cannot } from "../user_error.ts";
import { decodeSpec, type VmSpec } from "../vm/vm_spec.ts";
import { memberOf } from "./_member_of.ts";
import { operation, signalOf } from "./operation.ts";
import { progressLines, stream } from "./progress_lines.ts";
import { CreateLineSchema, DoneSchema, VmParamsSchema } from "./schemas.ts";

const nodeName = Type.String({ minLength: 1, maxLength: 128 });
const MoveSchema = Type.Object(
  {
    /** Null: wherever it is placed best. */
    to: Type.Union([nodeName, Type.Null()]),
    /** Whose place it takes; null or absent: the primary's. */
    from: Type.Optional(Type.Union([nodeName, Type.Null()])),
  },
  { additionalProperties: false },
);
const DrainSchema = Type.Object({ drain: Type.Boolean() }, { additionalProperties: false });
const DrainedSchema = Type.Object({
  /** VMs that are still there. */
  vms: Type.Array(Type.String()),
});
const nodeParams = Type.Object({ id: nodeName });

type Params = Static<typeof VmParamsSchema>;
type Move = Static<typeof MoveSchema>;

export function placementRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  const { router, mover } = daemon;
  const move = operation({
    ...{ tag: "vms", id: "moveVm", summary: "Move a copy of a VM to another node while it runs" },
    description: "Answers with lines of progress, the last of which is the VM or a problem.",
    params: VmParamsSchema,
    body: MoveSchema,
    answers: {
      200: { says: "Lines of progress.", types: { "application/x-ndjson": CreateLineSchema } },
    },
  });
  app.post<{ Params: Params; Body: Move }>("/v1/vms/:name/move", move, async (request, reply) => {
    const spec = await router.expectOwn(request.params.name, "move VM");
    const { from: name = null } = request.body;
    const from = name === null ? null : memberOf(daemon, { verb: "move a VM from node", name });
    const verb = "move a VM to node";
    const to =
      request.body.to === null
        ? bestPlace(daemon, { spec, members: membersNow(spec, await router.statuses(spec)) })
        : memberOf(daemon, { verb, name: request.body.to });
    const signal = signalOf(reply);
    const lines = progressLines(async (onProgress) => {
      await mover.move(spec, { to, from }, { signal, onProgress });
      return await router.view(spec);
    });
    return stream(reply, signal, lines);
  });
  const why = operation({
    ...{ tag: "vms", id: "getPlacement", summary: "Why a VM is where it is" },
    description: "How each node ranks for this VM, whether it fits, and what it shares.",
    params: VmParamsSchema,
    answers: { 200: { says: "All nodes, the likeliest first.", schema: PlacementSchema } },
  });
  app.get<{ Params: Params }>("/v1/vms/:name/placement", why, async ({ params }) => {
    const spec = await router.expect(params.name, "explain the place of VM");
    const members = membersNow(spec, await router.statuses(spec));
    return { nodes: explainPlacement(daemon, { spec, members }) };
  });
  drainRoutes(app, daemon);
}

/** The first choice among the nodes that have no part of the VM and room for it. */
function bestPlace(
  daemon: DaemonParts,
  vm: { readonly spec: VmSpec; readonly members: readonly Member[] },
): string {
  const { spec, members } = vm;
  const row = explainPlacement(daemon, vm).find(
    (node) =>
      node.rank !== null &&
      node.memory_free_bytes >= spec.memoryBytes &&
      members.every(({ id }) => id !== node.node),
  );
  if (row !== undefined) return row.node;
  const remedy = `see: node-mesh vm show --why ${spec.name}`;
  throw cannot("move VM", spec.name, { why: "no other node can take it", remedy });
}

function drainRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  const { mesh } = daemon;
  const { rpc } = mesh.node;
  const drain = operation({
    ...{ tag: "node", id: "drainNode", summary: "Move all VMs off a node, or let it take some" },
    params: nodeParams,
    body: DrainSchema,
    answers: { 200: { says: "It has begun.", schema: DoneSchema } },
  });
  app.put<{ Params: { id: string }; Body: Static<typeof DrainSchema> }>(
    "/v1/nodes/:id/drain",
    drain,
    async ({ params, body }) => {
      const id = memberOf(daemon, { verb: "drain node", name: params.id });
      if (!mesh.may(mesh.id, "administer") && id !== mesh.id) {
        const why = "this node may not administer";
        throw cannot("drain node", params.id, { why, remedy: "ask there" });
      }
      await rpc.call(id, NODE_DRAIN, body);
      return {};
    },
  );
  const left = operation({
    ...{ tag: "node", id: "listNodeVms", summary: "The VMs that a node still runs a part of" },
    params: nodeParams,
    answers: { 200: { says: "Their names.", schema: DrainedSchema } },
  });
  app.get<{ Params: { id: string } }>("/v1/nodes/:id/vms", left, async ({ params }) => {
    const id = memberOf(daemon, { verb: "ask node", name: params.id });
    const { reports } = await rpc.call(id, VM_REPORT, {});
    const held = reports.filter(({ status }) => status.state !== "ended");
    return { vms: held.map(({ spec }) => decodeSpec(spec).name) };
  });
}
