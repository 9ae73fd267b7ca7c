/** Tickets and roles in the local API, as schemas: both its server and its client use them. */
import { type Static, Type } from "@sinclair/typebox";
import { membershipLimits, meshRoles } from "../../mesh/mod.ts";

const text = Type.String();
const roles = Type.Array(Type.Union(meshRoles.map((role) => Type.Literal(role))), {
  maxItems: meshRoles.length,
  uniqueItems: true,
});

export const TicketOrderSchema = Type.Object(
  {
    roles,
    /** 0: any number. */
    uses: Type.Integer({ minimum: 0, maximum: membershipLimits.ticketUsesMax }),
    life_ms: Type.Integer({ minimum: 1, maximum: membershipLimits.ticketLifeMsMax }),
  },
  { additionalProperties: false },
);
export type TicketOrder = Static<typeof TicketOrderSchema>;

export const TicketSchema = Type.Object({ ticket: text });

export const TicketViewSchema = Type.Object({
  id: text,
  roles,
  uses: Type.Integer(),
  used: Type.Integer(),
  expires_ms: Type.Integer(),
  made_ms: Type.Integer(),
  by: text,
  /** "open", or why it lets nobody in. */
  state: text,
});
export type TicketView = Static<typeof TicketViewSchema>;
export const TicketsSchema = Type.Object({ tickets: Type.Array(TicketViewSchema) });

export const RolesSchema = Type.Object({ roles }, { additionalProperties: false });
