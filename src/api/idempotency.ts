/**
 * Answers to creating requests, by the key that the client gave: the same request again gets what
 * the first one came to, also while that one still runs. Kept in memory, for a day, bounded.
 */
import { createHash } from "node:crypto";
import { ApiError } from "./problem.ts";

export const idempotencyLimits = {
  keptMs: 24 * 3_600_000,
  keysMax: 1024,
} as const;

interface Kept<T> {
  readonly bodyHash: string;
  readonly sinceMs: number;
  readonly answer: Promise<T>;
}

export class IdempotentAnswers<T> {
  readonly #now: () => number;
  readonly #kept = new Map<string, Kept<T>>();

  constructor(options: { readonly now: () => number }) {
    this.#now = options.now;
  }

  /** Calls `make` unless this key was answered before; a failure may be tried again. */
  answer(key: string, body: unknown, options: { readonly make: () => Promise<T> }): Promise<T> {
    const bodyHash = createHash("sha256").update(JSON.stringify(body)).digest("hex");
    const known = this.#kept.get(key);
    if (known !== undefined && this.#now() - known.sinceMs < idempotencyLimits.keptMs) {
      if (known.bodyHash === bodyHash) return known.answer;
      throw new ApiError(
        "mismatch",
        `Cannot use Idempotency-Key "${key}" again: it was sent with another request before; ` +
          "choose a new key for a new request",
      );
    }
    const answer = options.make();
    this.#kept.set(key, { bodyHash, sinceMs: this.#now(), answer });
    answer.catch(() => this.#kept.delete(key));
    const oldest = this.#kept.keys().next().value;
    if (this.#kept.size > idempotencyLimits.keysMax && oldest !== undefined) {
      this.#kept.delete(oldest);
    }
    return answer;
  }
}
