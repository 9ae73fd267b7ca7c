/**
 * What a VM is: the description that its creator makes once and every member stores with the VM's
 * group. Everything that decides the guest's execution is in it, so that all copies are the same
 * machine. Read from peers as if an enemy had written it.
 */
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { decode, Encoder } from "cbor-x";
import type { Member } from "../../mesh/mod.ts";
import { logLimits, logVersion } from "../log/log_schema.ts";

const sha256Text = Type.String({ pattern: "^[0-9a-f]{64}$" });

/** Names are typed in shells and shown in tables: short, and no character that needs quoting. */
export const vmNamePattern = "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$";

export const engines = ["interp", "kvm", "auto"] as const;
export type Engine = (typeof engines)[number];

export const limitsOfVm = {
  membersMax: 7,
  specBytesMax: 16 * 1024,
} as const;

export const VmSpecSchema = Type.Object(
  {
    version: Type.Literal(1),
    id: Type.String({ pattern: "^[0-9a-f]{32}$" }),
    name: Type.String({ pattern: vmNamePattern }),
    owner: Type.String({ minLength: 1, maxLength: 128 }),
    createdMs: Type.Integer({ minimum: 0 }),
    engine: Type.Union(engines.map((engine) => Type.Literal(engine))),
    memoryBytes: Type.Integer({
      minimum: logLimits.memoryBytesMin,
      maximum: logLimits.memoryBytesMax,
      multipleOf: logLimits.memoryBytesUnit,
    }),
    cmdline: Type.String({ maxLength: logLimits.cmdlineBytesMax, pattern: "^[^\\u0000]*$" }),
    kernelSha256: sha256Text,
    initrdSha256: Type.Union([sha256Text, Type.Null()]),
    rngSeed: sha256Text,
    /** An entropy device and a network card; machines described before there were any have none. */
    rng: Type.Optional(Type.Boolean()),
    net: Type.Optional(
      Type.Object(
        {
          mac: Type.String({ pattern: "^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$" }),
          mtu: Type.Integer({ minimum: logLimits.mtuMin, maximum: logLimits.mtuMax }),
        },
        { additionalProperties: false },
      ),
    ),
    /** By the hash of their content; zeros follow an image that is shorter than the disk. */
    disks: Type.Optional(
      Type.Array(
        Type.Object(
          {
            content: sha256Text,
            sizeBytes: Type.Integer({
              minimum: Number(logLimits.sectorBytes),
              maximum: Number(logLimits.diskBytesMax),
              multipleOf: Number(logLimits.sectorBytes),
            }),
            readOnly: Type.Boolean(),
          },
          { additionalProperties: false },
        ),
        { maxItems: logLimits.disksMax },
      ),
    ),
    startRealtimeMs: Type.Integer({ minimum: 0, maximum: 9_000_000_000_000 }),
    copies: Type.Integer({ minimum: 1, maximum: limitsOfVm.membersMax }),
    witnesses: Type.Integer({ minimum: 0, maximum: limitsOfVm.membersMax - 1 }),
    members: Type.Array(
      Type.Object(
        {
          id: Type.String({ minLength: 1, maxLength: 128 }),
          role: Type.Union([Type.Literal("replica"), Type.Literal("witness")]),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: limitsOfVm.membersMax },
    ),
  },
  { additionalProperties: false },
);

export type VmSpec = Static<typeof VmSpecSchema>;

const cbor = new Encoder({ useRecords: false, mapsAsObjects: true, tagUint8Array: false });

export function encodeSpec(spec: VmSpec): Uint8Array {
  return cbor.encode(spec);
}

/** Reads a stored or received description; TypeError says what is wrong with it. */
export function decodeSpec(bytes: Uint8Array): VmSpec {
  if (bytes.length > limitsOfVm.specBytesMax)
    throw new TypeError("the VM's description is too large");
  let value: unknown;
  try {
    value = plain(decode(bytes));
  } catch {
    throw new TypeError("the VM's description cannot be read");
  }
  return checkSpec(value);
}

export function checkSpec(value: unknown): VmSpec {
  if (!Value.Check(VmSpecSchema, value)) {
    const error = Value.Errors(VmSpecSchema, value).First();
    const field = error === undefined || error.path === "" ? "it" : error.path.slice(1);
    throw new TypeError(
      `the VM's description is wrong: ${field}: ${error?.message ?? "malformed"}`,
    );
  }
  const ids = new Set(value.members.map((member) => member.id));
  if (ids.size !== value.members.length) throw new TypeError("a node is a member of the VM twice");
  const replicas = value.members.filter((member) => member.role === "replica").length;
  if (replicas !== value.copies || value.members.length !== value.copies + value.witnesses) {
    throw new TypeError("the VM's members do not match its number of copies and witnesses");
  }
  if (Buffer.byteLength(value.cmdline) > logLimits.cmdlineBytesMax) {
    throw new TypeError(`the command line is longer than ${logLimits.cmdlineBytesMax} bytes`);
  }
  return value;
}

export function membersOf(spec: VmSpec): readonly Member[] {
  return spec.members;
}

/** The machine's configuration as the monitor and the log's header have it. */
export function machineConfig(spec: VmSpec): Readonly<Record<string, unknown>> {
  return {
    log_version: logVersion,
    cpu_model: "mesh-v1",
    memory_bytes: BigInt(spec.memoryBytes),
    cmdline: spec.cmdline,
    start_realtime_ns: BigInt(spec.startRealtimeMs) * 1_000_000n,
    rng_seed: Buffer.from(spec.rngSeed, "hex"),
    kernel_sha256: Buffer.from(spec.kernelSha256, "hex"),
    initrd_sha256: spec.initrdSha256 === null ? null : Buffer.from(spec.initrdSha256, "hex"),
    initial_ns_per_step: 0,
    rng: spec.rng ?? false,
    net:
      spec.net === undefined
        ? null
        : { mac: Buffer.from(spec.net.mac.replaceAll(":", ""), "hex"), mtu: spec.net.mtu },
    disks: (spec.disks ?? []).map((disk) => ({
      content: Buffer.from(disk.content, "hex"),
      size_bytes: BigInt(disk.sizeBytes),
      read_only: disk.readOnly,
    })),
  };
}

function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
  }
  return value;
}
