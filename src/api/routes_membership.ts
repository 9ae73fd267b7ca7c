/** Tickets, roles and the removal of nodes in the local API. */
import { type Static, Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { ForbiddenError, meshRoles, whyUnusable } from "../../mesh/mod.ts";
import type { DaemonParts } from "../daemon/daemon.ts";
import { cannot, oneLine, UserError } from "../user_error.ts";
import { memberOf } from "./_member_of.ts";
import { operation } from "./operation.ts";
import {
  RolesSchema,
  TicketOrderSchema,
  TicketSchema,
  TicketsSchema,
  type TicketView,
} from "./schemas_membership.ts";

const done = Type.Object({});
const idParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 128 }) });
type IdParams = Static<typeof idParams>;
type TicketOrder = Static<typeof TicketOrderSchema>;
type Roles = Static<typeof RolesSchema>;

export function membershipRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  ticketRoutes(app, daemon);
  memberRoutes(app, daemon);
}

const tag = "membership";

function ticketRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  const { mesh } = daemon;
  const create = operation({
    ...{ tag, id: "createTicket", summary: "Make what other machines need to join" },
    description: "Holds the mesh key and a secret: whoever has it can join until it expires.",
    body: TicketOrderSchema,
    answers: { 200: { says: "The ticket.", schema: TicketSchema } },
  });
  app.post<{ Body: TicketOrder }>("/v1/tickets", create, async ({ body }, reply) => {
    const { roles, uses, life_ms } = body;
    void reply.header("cache-control", "no-store");
    return { ticket: await allowed(() => mesh.createTicket({ roles, uses, lifeMs: life_ms })) };
  });
  const list = operation({
    ...{ tag, id: "listTickets", summary: "The tickets of the mesh, without their secrets" },
    answers: { 200: { says: "All tickets.", schema: TicketsSchema } },
  });
  app.get("/v1/tickets", list, () => ({ tickets: ticketsOf(daemon) }));
  const revoke = operation({
    ...{ tag, id: "revokeTicket", summary: "Let nobody in with a ticket any more" },
    params: idParams,
    answers: { 200: { says: "It is revoked.", schema: done } },
  });
  app.delete<{ Params: IdParams }>("/v1/tickets/:id", revoke, async ({ params }) => {
    const found = mesh.membership.tickets().filter(({ ticket }) => ticket.endsWith(params.id));
    const [ticket] = found;
    if (ticket === undefined || found.length > 1) {
      const why = ticket === undefined ? "there is no such ticket" : "several end like that";
      const remedy = "see: node-mesh ticket ls";
      throw cannot("revoke ticket", params.id, { why, remedy, kind: "not_found" });
    }
    await allowed(() => mesh.membership.revokeTicket(ticket.ticket));
    return {};
  });
}

function memberRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  const { mesh } = daemon;
  const roles = operation({
    ...{ tag, id: "setRoles", summary: "Say what a node may do" },
    params: idParams,
    body: RolesSchema,
    answers: { 200: { says: "It has these roles.", schema: done } },
  });
  app.put<{ Params: IdParams; Body: Roles }>(
    "/v1/nodes/:id/roles",
    roles,
    async ({ params, body }) => {
      const id = memberOf(daemon, { verb: "give roles to node", name: params.id });
      await allowed(() => mesh.membership.setRoles(id, body.roles));
      return {};
    },
  );
  const remove = operation({
    ...{ tag, id: "removeNode", summary: "Remove a node from the mesh for good" },
    params: idParams,
    answers: { 200: { says: "Every member refuses it.", schema: done } },
  });
  app.delete<{ Params: IdParams }>("/v1/nodes/:id", remove, async ({ params }) => {
    const id = memberOf(daemon, { verb: "remove node", name: params.id });
    if (id === mesh.id) {
      const why = "it is this node itself";
      const remedy = "ask another one to remove it";
      throw cannot("remove node", params.id, { why, remedy, kind: "invalid" });
    }
    await allowed(() => mesh.membership.remove(id));
    return {};
  });
}

/** What the membership refuses is an answer for the user. */
async function allowed<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ForbiddenError) throw new UserError(oneLine(error), { kind: "refused" });
    throw error;
  }
}

function ticketsOf(daemon: DaemonParts): TicketView[] {
  const now = Date.now();
  return daemon.mesh.membership
    .tickets()
    .map((ticket) => ({
      id: ticket.ticket,
      roles: meshRoles.filter((role) => ticket.roles.includes(role)),
      uses: ticket.uses,
      used: ticket.used.length,
      expires_ms: ticket.expires,
      made_ms: ticket.madeAt,
      by: daemon.router.nameOf(ticket.by),
      state: whyUnusable(ticket, now)?.replace(/^the ticket (was |has )?/, "") ?? "open",
    }))
    .sort((a, b) => a.made_ms - b.made_ms);
}
