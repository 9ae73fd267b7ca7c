/**
 * The control messages that a `vmm serve` process sends, as schemas, and the ones it is sent, as
 * types. What does not fit a schema is refused here and never reaches the supervisor.
 */
import { type Static, type TSchema, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { decodeControl, FrameError } from "./frame_codec.ts";

export const wireVersion = 1;

const count = Type.Integer({ minimum: 0 });
const text = Type.String({ maxLength: 65_536 });
/** Counters that may pass 2^53 in years of running; only shown, never computed with. */
const bigCount = Type.Union([count, Type.BigInt()]);

export const endReasons = ["poweroff", "reboot", "stopped", "triple_fault", "unsupported"] as const;
export type EndReason = (typeof endReasons)[number];

const schemas = {
  hello: Type.Object({ kind: Type.Literal("hello"), wire: count, log: count }),
  ready: Type.Object({
    kind: Type.Literal("ready"),
    engine: text,
    engine_why: Type.Optional(text),
    /** The first chunk that is wanted, and the console bytes before it; 0 without a checkpoint. */
    chunk: Type.Optional(count),
    console_bytes: Type.Optional(count),
  }),
  live: Type.Object({ kind: Type.Literal("live"), steps: bigCount, chunk: count }),
  progress: Type.Object({
    kind: Type.Literal("progress"),
    steps: bigCount,
    guest_ns: bigCount,
    chunk: count,
    console_bytes: count,
    idle: Type.Optional(Type.Boolean()),
    /** From the first byte of what the guest said until it had left; of a live copy. */
    output_delay_us: Type.Optional(Type.Object({ p50: count, p99: count, count })),
  }),
  input_applied: Type.Object({ kind: Type.Literal("input_applied"), source: count, seq: count }),
  frame_applied: Type.Object({
    kind: Type.Literal("frame_applied"),
    source: count,
    seq: count,
    accepted: Type.Boolean(),
  }),
  /** All chunks before `chunk` are committed, and `DIRECTORY/MANIFEST.checkpoint` is there. */
  checkpointed: Type.Object({
    kind: Type.Literal("checkpointed"),
    manifest: Type.String({ pattern: "^[0-9a-f]{64}$" }),
    chunk: count,
    steps: bigCount,
    user_steps: bigCount,
    bytes: count,
    pages: count,
    pause_ms: Type.Number({ minimum: 0 }),
    work_ms: Type.Number({ minimum: 0 }),
  }),
  checkpoint_failed: Type.Object({ kind: Type.Literal("checkpoint_failed"), message: text }),
  stats: Type.Object({ kind: Type.Literal("stats") }),
  ended: Type.Object({
    kind: Type.Literal("ended"),
    reason: Type.Union(endReasons.map((reason) => Type.Literal(reason))),
    report: Type.Optional(Type.Union([text, Type.Null()])),
  }),
  diverged: Type.Object({ kind: Type.Literal("diverged"), chunk: count, steps: bigCount }),
  error: Type.Object({ kind: Type.Literal("error"), message: text }),
} satisfies Record<string, TSchema>;

type Schemas = typeof schemas;
export type VmmMessageKind = keyof Schemas;
export type VmmMessage = { [K in VmmMessageKind]: Static<Schemas[K]> }[VmmMessageKind];
export type VmmMessageOf<K extends VmmMessageKind> = Static<Schemas[K]>;

/** One message of the monitor; FrameError when it is none of those above. */
export function parseVmmMessage(payload: Uint8Array): VmmMessage {
  const map = decodeControl(payload);
  const kind = map["kind"];
  const schema =
    typeof kind === "string" && Object.hasOwn(schemas, kind)
      ? schemas[kind as VmmMessageKind]
      : undefined;
  if (schema === undefined) throw new FrameError("a control frame is of no known kind");
  if (!Value.Check(schema, map)) {
    const first = Value.Errors(schema, map).First();
    throw new FrameError(`a "${kind}" frame is malformed at "${first?.path ?? ""}"`);
  }
  return map as VmmMessage;
}

/** What a machine needs to be built: the log header's fields, and where its images are. */
export interface VmmStart {
  readonly config: Readonly<Record<string, unknown>>;
  readonly kernel: string;
  readonly initrd: string | null;
  readonly engine: "interp" | "kvm" | "auto";
  /** A checkpoint's file to begin at, instead of at power on. */
  readonly checkpoint?: string | null;
}
