/**
 * Errors that are meant for the person at the keyboard: one line that says what could not be done,
 * to what, why, and what to do. Everything else that is thrown is a fault of this program.
 */

export type ProblemKind = "invalid" | "not_found" | "exists" | "refused" | "unavailable";

export class UserError extends Error {
  override name = "UserError";
  readonly kind: ProblemKind;

  constructor(message: string, options: { readonly kind: ProblemKind; readonly cause?: unknown }) {
    super(message, { cause: options.cause });
    this.kind = options.kind;
  }
}

export interface Refusal {
  readonly why: string;
  readonly remedy?: string;
  readonly kind?: ProblemKind;
}

/** `cannot("run VM", "web", {why, remedy})` reads: Cannot run VM "web": why; remedy. */
export function cannot(verb: string, thing: string, refusal: Refusal): UserError {
  const why = oneLine(refusal.why);
  // What came from deeper down may name a remedy already.
  const said = refusal.remedy === undefined || why.includes(";");
  const remedy = said ? "" : `; ${refusal.remedy}`;
  return new UserError(`Cannot ${verb} "${thing}": ${why}${remedy}`, {
    kind: refusal.kind ?? "refused",
  });
}

/** What an error says, as one line without control characters. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text
    .replace(/[\x00-\x1f\x7f]+/g, " ")
    .trim()
    .slice(0, 2000);
}
