/**
 * Times each switch that ends on this node: from the sign that nobody leads, by election and the
 * rest of the log, to the first output. A pure function of what it is shown and of the clock.
 */
import type { VmSight } from "../vm/vm_observer.ts";

export interface SwitchTimes {
  readonly term: number;
  /** The VM never ran before. */
  readonly first: boolean;
  /** By the clock that was given. */
  readonly lostAt: number;
  readonly electedAt: number;
  readonly liveAt: number;
  readonly outputAt: number;
}

interface Trace {
  lostAt: number | null;
  electedAt: number | null;
  liveAt: number | null;
  first: boolean;
  term: number;
}

export class SwitchTracer {
  readonly #now: () => number;
  readonly #traces = new Map<string, Trace>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** The times of a switch when this sight completes one. */
  see(vm: string, sight: VmSight): SwitchTimes | null {
    if (sight.kind === "commit") return null;
    const trace = this.#traces.get(vm) ?? fresh();
    this.#traces.set(vm, trace);
    if (sight.kind === "role") this.#role(trace, sight);
    else if (sight.kind === "phase") this.#phase(vm, sight);
    else return this.#output(vm, trace);
    return null;
  }

  forget(vm: string): void {
    this.#traces.delete(vm);
  }

  #role(trace: Trace, sight: VmSight & { kind: "role" }): void {
    const now = this.#now();
    if (sight.leads) {
      if (trace.electedAt !== null && trace.term === sight.term) return;
      trace.lostAt ??= now;
      trace.electedAt = now;
      trace.liveAt = null;
      trace.term = sight.term;
    } else {
      trace.electedAt = null;
      trace.liveAt = null;
      trace.lostAt = sight.leader === null ? (trace.lostAt ?? now) : null;
    }
  }

  #phase(vm: string, sight: VmSight & { kind: "phase" }): void {
    const trace = this.#traces.get(vm) as Trace;
    if (sight.phase !== "live" || trace.electedAt === null) return;
    trace.liveAt = this.#now();
    trace.first = sight.chunkCount === 0;
  }

  #output(vm: string, trace: Trace): SwitchTimes | null {
    const { lostAt, electedAt, liveAt, first, term } = trace;
    if (lostAt === null || electedAt === null || liveAt === null) return null;
    this.#traces.set(vm, { ...fresh(), term, electedAt });
    return { term, first, lostAt, electedAt, liveAt, outputAt: this.#now() };
  }
}

function fresh(): Trace {
  return { lostAt: null, electedAt: null, liveAt: null, first: false, term: 0 };
}
