/** Errors as RFC 9457 problems, and back. Never carries a stack trace. */
import { oneLine, type ProblemKind, UserError } from "../user_error.ts";
import type { Problem } from "./schemas.ts";

const statusOf: Readonly<Record<ProblemKind, number>> = {
  invalid: 400,
  not_found: 404,
  exists: 409,
  refused: 422,
  unavailable: 503,
};

const titleOf: Readonly<Record<ProblemKind, string>> = {
  invalid: "The request is not valid",
  not_found: "There is no such thing",
  exists: "It exists already",
  refused: "It was refused",
  unavailable: "It is not possible now",
};

export function problemOf(error: unknown): Problem {
  if (error instanceof UserError) {
    const { kind } = error;
    return {
      type: `urn:node-mesh:problem:${kind}`,
      title: titleOf[kind],
      status: statusOf[kind],
      detail: oneLine(error),
    };
  }
  const status = (error as { statusCode?: unknown }).statusCode;
  const clientFault = typeof status === "number" && status >= 400 && status < 500;
  return {
    type: "about:blank",
    title: clientFault ? "The request is not valid" : "The node failed",
    status: clientFault ? status : 500,
    detail: oneLine(error),
  };
}

export function errorOf(problem: Problem): UserError {
  const kind = (Object.keys(statusOf) as ProblemKind[]).find(
    (candidate) => problem.type === `urn:node-mesh:problem:${candidate}`,
  );
  return new UserError(problem.detail, { kind: kind ?? "refused" });
}
