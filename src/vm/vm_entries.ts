/**
 * What the entries of a VM's group hold, and what a member says about its copy. One byte tells the
 * kind of an entry; an entry of unknown kind is left out by every member alike.
 */
import { type Static, Type } from "@sinclair/typebox";
import { endReasons } from "./vmm_messages.ts";

export type VmEntry =
  | { readonly kind: "chunk"; readonly chunk: Uint8Array }
  | { readonly kind: "remove" };

/** One piece of console input. Larger pastes are cut into pieces by the client. */
export const inputBytesMax = 4096;

const chunkTag = 0;
const removeTag = 1;

export function encodeEntry(entry: VmEntry): Uint8Array {
  if (entry.kind === "remove") return Uint8Array.of(removeTag);
  const bytes = new Uint8Array(1 + entry.chunk.length);
  bytes[0] = chunkTag;
  bytes.set(entry.chunk, 1);
  return bytes;
}

export function decodeEntry(data: Uint8Array): VmEntry | null {
  if (data[0] === chunkTag) return { kind: "chunk", chunk: data.subarray(1) };
  if (data[0] === removeTag && data.length === 1) return { kind: "remove" };
  return null;
}

export const vmStates = [
  "witness",
  "starting",
  "following",
  "going_live",
  "live",
  "ended",
  "failed",
  "removed",
] as const;
export type VmState = (typeof vmStates)[number];

const count = Type.Integer({ minimum: 0 });
const decimal = Type.String({ pattern: "^[0-9]{1,20}$" });
const nullable = <T extends ReturnType<typeof Type.String> | ReturnType<typeof Type.Number>>(
  schema: T,
) => Type.Union([schema, Type.Null()]);

const memberRole = Type.Union([
  Type.Literal("replica"),
  Type.Literal("witness"),
  Type.Literal("learner"),
]);

/** What one member knows about its own copy, and as leader about the others. */
export const CopyStatusSchema = Type.Object({
  role: memberRole,
  /** All members as this one's log has them, and the index that put them in force. */
  members: Type.Array(Type.Object({ id: Type.String({ maxLength: 128 }), role: memberRole }), {
    maxItems: 32,
  }),
  membersIndex: count,
  state: Type.Union(vmStates.map((state) => Type.Literal(state))),
  leader: nullable(Type.String({ maxLength: 128 })),
  term: count,
  isLeader: Type.Boolean(),
  commit: count,
  chunkCount: count,
  logBytes: count,
  consoleStart: count,
  consoleEnd: count,
  consoleMismatches: count,
  strangeEntries: count,
  engine: nullable(Type.String({ maxLength: 64 })),
  pid: nullable(Type.Number()),
  steps: decimal,
  guestNs: decimal,
  replayedChunks: count,
  idle: Type.Boolean(),
  outputDelayMs: Type.Union([Type.Object({ p50: Type.Number(), p99: Type.Number() }), Type.Null()]),
  liveCount: count,
  switchMs: nullable(Type.Number()),
  endReason: Type.Union([...endReasons.map((reason) => Type.Literal(reason)), Type.Null()]),
  endReport: nullable(Type.String({ maxLength: 65_536 })),
  failure: nullable(Type.String({ maxLength: 65_536 })),
  commitLatencyMs: Type.Union([
    Type.Object({ p50: Type.Number(), p99: Type.Number(), count }),
    Type.Null(),
  ]),
  followers: Type.Array(
    Type.Object({
      id: Type.String({ maxLength: 128 }),
      match: count,
      lagEntries: count,
      active: Type.Boolean(),
      needsSeed: Type.Boolean(),
    }),
    { maxItems: 32 },
  ),
});

export type CopyStatus = Static<typeof CopyStatusSchema>;
