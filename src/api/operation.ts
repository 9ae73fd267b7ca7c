/** How routes describe themselves, so that the OpenAPI document says all of it. */
import type { TSchema } from "@sinclair/typebox";
import type { FastifyReply } from "fastify";
import { ProblemSchema } from "./schemas.ts";

export type Tag = "node" | "membership" | "vms" | "console" | "events" | "access";

export interface Operation {
  readonly id: string;
  readonly tag: Tag;
  readonly summary: string;
  readonly description?: string;
  readonly params?: TSchema;
  readonly querystring?: TSchema;
  readonly headers?: TSchema;
  readonly body?: TSchema;
  /** Status -> what is answered; JSON where no type is named. */
  readonly answers: Readonly<Record<number, Answer>>;
  /** Needs no token. */
  readonly open?: boolean;
}

export interface Answer {
  readonly says: string;
  readonly schema?: TSchema;
  readonly type?: string;
  /** Several types of one answer, by what the client accepts. */
  readonly types?: Readonly<Record<string, TSchema>>;
}

/** The route options of an operation. */
export function operation(given: Operation) {
  const { id, tag, summary, answers, open, ...parts } = given;
  const response: Record<string, object> = {};
  for (const [status, answer] of Object.entries(answers)) response[status] = responseOf(answer);
  response["default"] = {
    description: "A problem (RFC 9457)",
    content: { "application/problem+json": { schema: ProblemSchema } },
  };
  const security = open === true ? { security: [] } : {};
  const schema = { operationId: id, tags: [tag], summary, ...parts, ...security, response };
  return { schema, config: { open: open === true } };
}

function responseOf(answer: Answer): object {
  const { says, schema, type = "application/json", types } = answer;
  const all = types ?? (schema === undefined ? {} : { [type]: schema });
  const content = Object.fromEntries(
    Object.entries(all).map(([name, one]) => [name, { schema: one }]),
  );
  return Object.keys(content).length === 0
    ? { description: says, type: "null" }
    : { description: says, content };
}

/** Aborted when the client has left. */
export function signalOf(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once("close", () => gone.abort());
  return gone.signal;
}
