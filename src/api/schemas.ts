/**
 * What the local API takes and gives, as schemas: both its server and its client use them. Streams
 * are one JSON object a line.
 */
import { type Static, Type } from "@sinclair/typebox";
import { VmViewSchema } from "../daemon/vm_view.ts";
import { inputBytesMax } from "../vm/vm_entries.ts";

export { type MemberView, type VmView, VmViewSchema } from "../daemon/vm_view.ts";
export { type VmRequest, VmRequestSchema } from "../vm/vm_request.ts";

export const apiLimits = {
  /** The largest request is a VM's command line or a piece of console input. */
  bodyBytesMax: 256 * 1024,
  /** A client must have sent its whole request by then. */
  requestMs: 30_000,
  /** Open requests, followed consoles included. */
  connectionsMax: 512,
  /** Creating a VM includes moving its images to other nodes. */
  createMs: 300_000,
  /** What a reader does not take in is not sent; beyond this the stream pauses. */
  streamBufferBytes: 256 * 1024,
} as const;

const text = Type.String();
const number = Type.Number();

/** A problem as in RFC 9457; `detail` is the one line for the user. */
export const ProblemSchema = Type.Object({
  type: text,
  title: text,
  status: Type.Integer(),
  detail: text,
});
export type Problem = Static<typeof ProblemSchema>;

export const NodeViewSchema = Type.Object({
  id: text,
  name: text,
  self: Type.Boolean(),
  connected: Type.Boolean(),
  addresses: Type.Array(text),
  version: Type.Union([text, Type.Null()]),
  memory_bytes: number,
  memory_free_bytes: number,
  cpus: number,
  load_percent: number,
  vms: number,
  rtt_ms: Type.Union([number, Type.Null()]),
});
export type NodeView = Static<typeof NodeViewSchema>;

export const StatusSchema = Type.Object({
  id: text,
  name: text,
  version: text,
  pid: Type.Integer(),
  started_ms: number,
  data: text,
  addresses: Type.Array(text),
  peers: Type.Integer(),
  peers_connected: Type.Integer(),
  copies: Type.Array(
    Type.Object({ name: text, role: text, state: text, leader: Type.Boolean(), chunks: number }),
  ),
  memory_free_bytes: number,
  memory_used_bytes: number,
  counters: Type.Record(text, number),
});
export type Status = Static<typeof StatusSchema>;

export const NodesSchema = Type.Object({ nodes: Type.Array(NodeViewSchema) });
export const VmsSchema = Type.Object({ vms: Type.Array(VmViewSchema) });
export const TicketSchema = Type.Object({ ticket: text });

export const VmParamsSchema = Type.Object({ name: Type.String({ minLength: 1, maxLength: 64 }) });

export const ConsoleQuerySchema = Type.Object({
  offset: Type.String({ pattern: "^[0-9]{1,15}$", default: "0" }),
  follow: Type.Union([Type.Literal("true"), Type.Literal("false")], { default: "false" }),
});

export const InputSchema = Type.Object({
  source: Type.Integer({ minimum: 0 }),
  seq: Type.Integer({ minimum: 1 }),
  /** base64 */
  data: Type.String({ maxLength: Math.ceil(inputBytesMax / 3) * 4 }),
});
export type Input = Static<typeof InputSchema>;

/** A line of a console stream: output, or the problem that ended it. */
export const ConsoleLineSchema = Type.Union([
  Type.Object({ offset: Type.Integer(), data: text, closed: Type.Boolean() }),
  Type.Object({ problem: ProblemSchema }),
]);
export type ConsoleLine = Static<typeof ConsoleLineSchema>;

/** A line of the stream that answers the making of a VM. */
export const CreateLineSchema = Type.Union([
  Type.Object({ progress: text }),
  Type.Object({ vm: VmViewSchema }),
  Type.Object({ problem: ProblemSchema }),
]);
export type CreateLine = Static<typeof CreateLineSchema>;
