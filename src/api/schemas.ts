/**
 * What the API takes and gives, as schemas: its server, its client and its OpenAPI document use
 * them. Streams are one JSON object a line.
 */
import { type Static, Type } from "@sinclair/typebox";
import { VmViewSchema } from "../daemon/vm_view.ts";
import { MeshEventSchema } from "../events/mesh_event.ts";
import { inputBytesMax } from "../vm/vm_entries.ts";

export { type VmHistory, VmHistorySchema } from "../daemon/vm_history.ts";
export { type MemberView, type VmView, VmViewSchema } from "../daemon/vm_view.ts";
export { type MeshEvent, MeshEventSchema } from "../events/mesh_event.ts";
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
  /** A stream whose reader takes nothing in for so long is ended. */
  streamStallMs: 60_000,
  /** Between two signs of life on a stream of events. */
  heartbeatMs: 15_000,
  /** Requests of one address on TCP in a period; a dashboard makes a few a second. */
  requestsMax: 600,
  requestsPeriodMs: 10_000,
  /** Rows of a page. */
  pageMax: 1000,
  /** A message of a console's WebSocket: one piece of input with its frame. */
  socketMessageBytesMax: 16 * 1024,
  /** Pieces of input on one WebSocket that wait for their commit. */
  socketInputsMax: 256,
} as const;

const text = Type.String();
const number = Type.Number();

/** A problem as in RFC 9457; `detail` is the one line for the user. */
export const ProblemSchema = Type.Object(
  { type: text, title: text, status: Type.Integer(), detail: text },
  { title: "Problem" },
);
export type Problem = Static<typeof ProblemSchema>;

export const NodeViewSchema = Type.Object(
  {
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
    /** What fails together with it; null: it stands for itself. */
    domain: Type.Union([text, Type.Null()]),
  },
  { title: "Node" },
);
export type NodeView = Static<typeof NodeViewSchema>;

export const StatusSchema = Type.Object(
  {
    id: text,
    name: text,
    version: text,
    pid: Type.Integer(),
    started_ms: number,
    data: text,
    addresses: Type.Array(text),
    /** Where the API is on TCP; null when it is on the Unix socket alone. */
    api: Type.Union([text, Type.Null()]),
    peers: Type.Integer(),
    peers_connected: Type.Integer(),
    copies: Type.Array(
      Type.Object({
        name: text,
        role: text,
        state: text,
        leader: Type.Boolean(),
        term: Type.Integer(),
        chunks: number,
      }),
    ),
    memory_free_bytes: number,
    memory_used_bytes: number,
    counters: Type.Record(text, number),
  },
  { title: "Status" },
);
export type Status = Static<typeof StatusSchema>;

const next = Type.Union([text, Type.Null()], { description: "the cursor of the next page" });
export const NodesSchema = Type.Object({ nodes: Type.Array(NodeViewSchema), next });
export const VmsSchema = Type.Object({ vms: Type.Array(VmViewSchema), next });
export const DoneSchema = Type.Object({}, { description: "It is done." });

export const PageQuerySchema = Type.Object({
  limit: Type.String({ pattern: "^[0-9]{1,4}$", default: String(apiLimits.pageMax) }),
  cursor: Type.Optional(Type.String({ maxLength: 400, description: "`next` of the page before" })),
});
export type PageQuery = Static<typeof PageQuerySchema>;

export const VmParamsSchema = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 64, description: "name or id of the VM" }),
});

const offset = Type.String({
  pattern: "^[0-9]{1,15}$",
  default: "0",
  description: "bytes since power on",
});
const flag = (word: "true" | "false") =>
  Type.Union([Type.Literal("true"), Type.Literal("false")], { default: word });

export const ConsoleQuerySchema = Type.Object({ offset, follow: flag("false") });
/** A guest that does nothing about its power button does not end by it. */
export const StopQuerySchema = Type.Object({
  timeout_s: Type.String({
    pattern: "^[0-9]{1,3}$",
    default: "30",
    description: "seconds for the guest to switch itself off; then its power is taken away",
  }),
});
export type StopQuery = Static<typeof StopQuerySchema>;

export const StoppedSchema = Type.Object({
  forced: Type.Boolean({ description: "the guest did not switch itself off" }),
});

export const SocketQuerySchema = Type.Object({ offset });
export const EventsQuerySchema = Type.Object({
  follow: flag("true"),
  last_event_id: Type.Optional(
    Type.String({ maxLength: 64, description: "as the header Last-Event-ID" }),
  ),
});

export const InputSchema = Type.Object({
  source: Type.Integer({ minimum: 0, description: "a number that this client chose at random" }),
  seq: Type.Integer({ minimum: 1, description: "counts the pieces of this source from 1" }),
  data: Type.String({
    maxLength: Math.ceil(inputBytesMax / 3) * 4,
    contentEncoding: "base64",
  }),
});
export type Input = Static<typeof InputSchema>;

/** A line of a console stream: output, or the problem that ended it. */
export const ConsoleLineSchema = Type.Union([
  Type.Object({
    offset: Type.Integer(),
    data: Type.String({ contentEncoding: "base64" }),
    closed: Type.Boolean(),
  }),
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

export const CreateHeadersSchema = Type.Object({
  "idempotency-key": Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 128,
      description: "The same key again answers with what the first request came to.",
    }),
  ),
});

/** What a console's WebSocket takes; output comes as binary: an offset of 8 bytes, then bytes. */
export const SocketInputSchema = Type.Object(
  { kind: Type.Literal("input"), ...InputSchema.properties },
  { additionalProperties: false },
);
export type SocketInput = Static<typeof SocketInputSchema>;

/** What a console's WebSocket says beside output. */
export type SocketLine =
  | { readonly kind: "ack"; readonly seq: number }
  | { readonly kind: "ended" }
  | { readonly kind: "problem"; readonly seq: number | null; readonly problem: Problem };

export const SessionRequestSchema = Type.Object({ token: Type.String({ maxLength: 128 }) });
export const SessionSchema = Type.Object({
  who: Type.Union([Type.Literal("socket"), Type.Literal("token"), Type.Literal("session")]),
  ends_ms: Type.Union([number, Type.Null()]),
});
export type Session = Static<typeof SessionSchema>;
export const LoginLinkSchema = Type.Object({ url: text, ends_ms: number });
export type LoginLink = Static<typeof LoginLinkSchema>;

export const EventsSchema = Type.Object({ events: Type.Array(MeshEventSchema) });

/** A page of rows in the order of their keys; a cursor names the last key of the page before. */
export function pageOf<T>(
  rows: readonly T[],
  query: PageQuery,
  keyOf: (row: T) => string,
): { readonly rows: readonly T[]; readonly next: string | null } {
  const limit = Math.min(Math.max(1, Number(query.limit)), apiLimits.pageMax);
  const after =
    query.cursor === undefined ? "" : Buffer.from(query.cursor, "base64url").toString("utf8");
  const sorted = [...rows].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  const rest = after === "" ? sorted : sorted.filter((row) => keyOf(row) > after);
  const page = rest.slice(0, limit);
  const last = page.at(-1);
  const more = rest.length > page.length && last !== undefined;
  return { rows: page, next: more ? Buffer.from(keyOf(last), "utf8").toString("base64url") : null };
}
