/** What a user asks for when a VM is made; what may be had is checked where it is made. */
import { type Static, Type } from "@sinclair/typebox";
import { engines } from "./vm_spec.ts";

export const VmRequestSchema = Type.Object(
  {
    name: Type.String({ maxLength: 256 }),
    kernel: Type.Union([Type.String({ maxLength: 4096 }), Type.Null()]),
    initrd: Type.Union([Type.String({ maxLength: 4096 }), Type.Null()]),
    cmdline: Type.Union([Type.String({ maxLength: 65_536 }), Type.Null()]),
    memory_bytes: Type.Integer(),
    copies: Type.Integer(),
    witnesses: Type.Integer(),
    engine: Type.Union(engines.map((engine) => Type.Literal(engine))),
    /** An entropy device; a network card, whose address is made up. */
    rng: Type.Optional(Type.Boolean()),
    net: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);

export type VmRequest = Static<typeof VmRequestSchema>;
