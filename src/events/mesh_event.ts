/** What happened in the mesh, as whoever watches is told. */
import { type Static, Type } from "@sinclair/typebox";

export const eventKinds = [
  "node.up",
  "node.down",
  "vm.created",
  "vm.removed",
  "vm.state",
  "vm.primary",
  "vm.member",
  "vm.moment",
  "vm.switch",
  /** Events before this one were missed: read the state again. */
  "reset",
] as const;
export type EventKind = (typeof eventKinds)[number];

const maybeText = Type.Union([Type.String(), Type.Null()]);

export const MeshEventSchema = Type.Object(
  {
    id: Type.String({ description: "for Last-Event-ID" }),
    at_ms: Type.Number({ description: "the node's wall clock" }),
    kind: Type.Union(eventKinds.map((kind) => Type.Literal(kind))),
    vm: maybeText,
    vm_id: maybeText,
    node: maybeText,
    node_name: maybeText,
    from: maybeText,
    to: maybeText,
    term: Type.Union([Type.Integer(), Type.Null()]),
    ms: Type.Union([Type.Number(), Type.Null()], { description: "how long it took, if it did" }),
    text: Type.String({ description: "one line for people" }),
  },
  { title: "Event" },
);
export type MeshEvent = Static<typeof MeshEventSchema>;

/** An event before it has its number; what does not apply is left out. */
export type EventDraft = Pick<MeshEvent, "kind" | "text"> &
  Partial<Omit<MeshEvent, "id" | "at_ms" | "kind" | "text">>;
