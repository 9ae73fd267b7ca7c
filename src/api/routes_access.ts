/** Signing in and out: a browser's session begins with the token or with a link that works once. */
import { Type } from "@sinclair/typebox";
import type { FastifyInstance, FastifyReply } from "fastify";
import { type Access, sessionCookie, sessionIdOf } from "./access.ts";
import { operation } from "./operation.ts";
import { ApiError } from "./problem.ts";
import {
  DoneSchema,
  LoginLinkSchema,
  type Session,
  SessionRequestSchema,
  SessionSchema,
} from "./schemas.ts";

export interface AccessFacts {
  /** Null: there is no API on TCP. */
  readonly access: Access | null;
  readonly apiUrl: () => string | null;
}

const tag = { tag: "access" } as const;

export function accessRoutes(app: FastifyInstance, facts: AccessFacts): void {
  const who = operation({
    ...tag,
    id: "getSession",
    summary: "Who is asking",
    answers: { 200: { says: "The caller.", schema: SessionSchema } },
  });
  app.get("/v1/session", who, (request): Session => {
    const caller = request.caller ?? { who: "socket" };
    return { who: caller.who, ends_ms: caller.who === "session" ? caller.endsMs : null };
  });
  signInRoutes(app, facts);
  const signOut = operation({
    ...tag,
    id: "signOut",
    summary: "End the browser's session",
    answers: { 200: { says: "It is ended.", schema: DoneSchema } },
  });
  app.delete("/v1/session", signOut, (request, reply) => {
    const id = sessionIdOf(request.headers.cookie);
    if (id !== null) facts.access?.endSession(id);
    void reply.header("set-cookie", sessionCookie("", { endsMs: 0, secure: isSecure(facts) }));
    return {};
  });
}

function signInRoutes(app: FastifyInstance, facts: AccessFacts): void {
  const link = operation({
    ...tag,
    id: "makeLoginLink",
    summary: "An address that signs a browser in, once, within a minute",
    answers: { 200: { says: "The link.", schema: LoginLinkSchema } },
  });
  app.post("/v1/login-links", link, (_request, reply) => {
    const url = facts.apiUrl();
    if (facts.access === null || url === null) {
      throw new ApiError("mismatch", noTcp);
    }
    const { code, endsMs } = facts.access.newCode();
    void reply.header("cache-control", "no-store");
    return { url: `${url}/login?code=${code}`, ends_ms: endsMs };
  });
  const signIn = operation({
    ...tag,
    id: "signIn",
    summary: "Begin a browser's session with the token",
    open: true,
    body: SessionRequestSchema,
    answers: { 200: { says: "The session's cookie is set.", schema: SessionSchema } },
  });
  app.post<{ Body: { token: string } }>("/v1/session", signIn, (request, reply): Session => {
    const { access } = facts;
    if (access === null) throw new ApiError("mismatch", noTcp);
    if (!access.isToken(request.body.token)) {
      throw new ApiError(
        "unauthorized",
        "Cannot sign in: that is not this node's token; it is in the file api.token of the " +
          "node's data directory",
      );
    }
    const session = begin(reply, facts, access.newSession());
    return { who: "session", ends_ms: session.endsMs };
  });
  const login = operation({
    ...tag,
    id: "useLoginLink",
    summary: "Begin a browser's session with a link's code",
    open: true,
    querystring: Type.Object({ code: Type.String({ maxLength: 128 }) }),
    answers: { 303: { says: "To the dashboard, signed in or not." } },
  });
  app.get<{ Querystring: { code: string } }>("/login", login, (request, reply) => {
    const session = facts.access?.useCode(request.query.code) ?? null;
    if (session !== null) begin(reply, facts, session);
    void reply.headers({ "cache-control": "no-store", "referrer-policy": "no-referrer" });
    return reply.redirect(session === null ? "/#link-used" : "/", 303);
  });
}

const noTcp =
  "Cannot sign in a browser: the API is on the Unix socket alone; " +
  'start the node with "--api :7070"';

function begin(
  reply: FastifyReply,
  facts: AccessFacts,
  session: { readonly id: string; readonly endsMs: number },
) {
  const options = { endsMs: session.endsMs, secure: isSecure(facts) };
  void reply.header("set-cookie", sessionCookie(session.id, options));
  return session;
}

function isSecure(facts: AccessFacts): boolean {
  return facts.apiUrl()?.startsWith("https:") === true;
}
