/**
 * Counts of what happened, above all of what was refused. Refusals are counted always and logged
 * seldom: a hostile peer must not be able to fill a log.
 */

import type { Clock } from "./clock.ts";
import { transportLimits } from "./limits.ts";

/** What a logger must offer; pino's does. */
export interface MeshLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export const silentLog: MeshLog = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
};

export class Counters {
  readonly #counts = new Map<string, number>();

  add(name: string, amount = 1): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + amount);
  }

  get(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  /** All counts by name, in the order of the names. */
  snapshot(): Record<string, number> {
    const names = [...this.#counts.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(names);
  }
}

export interface RefusalsInit {
  readonly counters: Counters;
  readonly log: MeshLog;
  readonly clock: Clock;
}

/** Counts each refusal and warns about a few of them a minute. */
export class Refusals {
  readonly counters: Counters;
  readonly #init: RefusalsInit;
  #minuteStartMs = Number.NEGATIVE_INFINITY;
  #loggedInMinute = 0;

  constructor(init: RefusalsInit) {
    this.counters = init.counters;
    this.#init = init;
  }

  note(counter: string, fields: object, message: string): void {
    this.counters.add(counter);
    const now = this.#init.clock.now();
    if (now - this.#minuteStartMs > 60_000) {
      this.#minuteStartMs = now;
      this.#loggedInMinute = 0;
    }
    if (this.#loggedInMinute >= transportLimits.refusalLogPerMinuteMax) return;
    this.#loggedInMinute += 1;
    this.#init.log.warn({ ...fields, counter }, message);
  }
}
