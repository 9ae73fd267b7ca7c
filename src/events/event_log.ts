/**
 * The newest events of this node, numbered, for readers that follow and readers that come back.
 * Keeps a bounded number of them in memory; a reader that was away for longer is told so by an
 * event of kind `reset`. Knows nothing of where events come from.
 */
import { Waiters } from "../waiters.ts";
import type { EventDraft, MeshEvent } from "./mesh_event.ts";

/** Kept for readers that come back. */
export const eventsMax = 1024;

export class EventLog {
  /** Tells the numbers of this run from those of another one. */
  readonly #run: string;
  readonly #now: () => number;
  readonly #max: number;
  #events: MeshEvent[] = [];
  #lastNumber = 0;
  readonly #waiters = new Waiters();

  constructor(options: { readonly now: () => number; readonly max?: number }) {
    this.#now = options.now;
    this.#max = options.max ?? eventsMax;
    this.#run = Math.floor(options.now()).toString(36);
  }

  add(draft: EventDraft): void {
    this.#lastNumber += 1;
    this.#events.push(this.#event(draft, this.#lastNumber));
    if (this.#events.length > this.#max) this.#events.shift();
    this.#waiters.wake();
  }

  /** All that is kept, or what came after the event of that id. */
  after(lastId: string | null): MeshEvent[] {
    if (lastId === null) return [...this.#events];
    const number = this.#numberOf(lastId);
    const oldest = this.#lastNumber - this.#events.length;
    if (number === null || number < oldest) return [this.#reset(oldest), ...this.#events];
    return this.#events.slice(number - oldest);
  }

  get lastId(): string {
    return `${this.#run}-${this.#lastNumber}`;
  }

  /** Batches of events after `lastId`, as they come; without it from now on. */
  async *follow(
    lastId: string | null,
    options: { readonly signal: AbortSignal },
  ): AsyncGenerator<MeshEvent[]> {
    let last = lastId ?? this.lastId;
    while (!options.signal.aborted) {
      const events = this.after(last);
      const newest = events.at(-1);
      if (newest === undefined) await this.#waiters.wait(options.signal);
      else {
        last = newest.id;
        yield events;
      }
    }
  }

  #numberOf(id: string): number | null {
    const match = /^([0-9a-z]{1,16})-([0-9]{1,15})$/.exec(id);
    if (match?.[1] !== this.#run) return null;
    const number = Number(match[2]);
    return number <= this.#lastNumber ? number : null;
  }

  #reset(number: number): MeshEvent {
    const draft = { kind: "reset", text: "older events are not kept any more" } as const;
    return this.#event(draft, number);
  }

  #event({ kind, ...draft }: EventDraft, number: number): MeshEvent {
    return {
      id: `${this.#run}-${number}`,
      at_ms: this.#now(),
      kind,
      vm: null,
      vm_id: null,
      node: null,
      node_name: null,
      from: null,
      to: null,
      term: null,
      ms: null,
      ...draft,
    };
  }
}
