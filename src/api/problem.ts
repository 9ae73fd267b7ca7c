/** Errors as RFC 9457 problems, and back. The types are stable; never carries a stack trace. */
import { oneLine, type ProblemKind, UserError } from "../user_error.ts";
import type { Problem } from "./schemas.ts";

interface ProblemType {
  readonly status: number;
  readonly title: string;
}

/** What the daemon's parts say. */
const daemonTypes: Readonly<Record<ProblemKind, ProblemType>> = {
  invalid: { status: 400, title: "The request is not valid" },
  not_found: { status: 404, title: "There is no such thing" },
  exists: { status: 409, title: "It exists already" },
  refused: { status: 422, title: "It was refused" },
  unavailable: { status: 503, title: "It is not possible now" },
};

/** What the API says by itself. */
const ownTypes = {
  unauthorized: { status: 401, title: "Who asks is not known" },
  forbidden: { status: 403, title: "Another site asks" },
  too_slow: { status: 408, title: "The request took too long" },
  too_large: { status: 413, title: "The request is too large" },
  unsupported: { status: 415, title: "The request is of a kind that is not understood" },
  misdirected: { status: 421, title: "This node has another name" },
  mismatch: { status: 422, title: "The key was used for another request" },
  too_many: { status: 429, title: "Too many requests" },
  failed: { status: 500, title: "The node failed" },
} as const satisfies Record<string, ProblemType>;

export type ApiProblemKind = keyof typeof ownTypes;

/** All types by name: `urn:node-mesh:problem:NAME`. */
export const problemTypes: Readonly<Record<string, ProblemType>> = { ...daemonTypes, ...ownTypes };

const prefix = "urn:node-mesh:problem:";

/** A refusal that the API itself decides. */
export class ApiError extends Error {
  override name = "ApiError";
  readonly kind: ApiProblemKind;
  readonly statusCode: number;

  constructor(kind: ApiProblemKind, detail: string) {
    super(detail);
    this.kind = kind;
    this.statusCode = ownTypes[kind].status;
  }
}

export function problemOf(error: unknown): Problem {
  const name = nameOf(error);
  const { status, title } = problemTypes[name] as ProblemType;
  return { type: `${prefix}${name}`, title, status, detail: oneLine(error) };
}

function nameOf(error: unknown): string {
  if (error instanceof UserError || error instanceof ApiError) return error.kind;
  const status = (error as { statusCode?: unknown } | null)?.statusCode;
  if (typeof status !== "number" || status < 400 || status >= 500) return "failed";
  const own = Object.entries(problemTypes).find(([, type]) => type.status === status);
  return own?.[0] ?? "invalid";
}

export function errorOf(problem: Problem): UserError {
  const name = problem.type.startsWith(prefix) ? problem.type.slice(prefix.length) : "";
  const kind = Object.hasOwn(daemonTypes, name) ? (name as ProblemKind) : "refused";
  return new UserError(problem.detail, { kind });
}
