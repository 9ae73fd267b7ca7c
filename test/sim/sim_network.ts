/**
 * The network between simulated nodes: every direction of every link loses, delays, doubles and so
 * reorders messages as its state says. It never changes a message.
 */

import type { Message, NodeId } from "../../mesh/raft/mod.ts";
import type { Prng } from "../../src/prng.ts";
import type { EventQueue } from "./event_queue.ts";
import type { Trace } from "./trace.ts";

export interface NetworkFaults {
  readonly loss: number;
  readonly duplication: number;
  readonly delayMsMax: number;
  /** Share of messages that take up to SLOW_MS_MAX. */
  readonly slow: number;
}

const SLOW_MS_MAX = 2_000;

export const NO_NETWORK_FAULTS: NetworkFaults = {
  loss: 0,
  duplication: 0,
  delayMsMax: 3,
  slow: 0,
};

export class SimNetwork {
  readonly #queue: EventQueue;
  readonly #prng: Prng;
  readonly #trace: Trace;
  readonly #deliver: (message: Message) => void;
  /** Cut directions, as "from>to". */
  readonly #cut = new Set<string>();
  faults: NetworkFaults = NO_NETWORK_FAULTS;

  constructor(queue: EventQueue, prng: Prng, options: NetworkOptions) {
    this.#queue = queue;
    this.#prng = prng;
    this.#trace = options.trace;
    this.#deliver = options.deliver;
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.#cut.size > 0 && this.#cut.has(`${from}>${to}`);
  }

  setCut(from: NodeId, to: NodeId, isCut: boolean): void {
    if (isCut) this.#cut.add(`${from}>${to}`);
    else this.#cut.delete(`${from}>${to}`);
  }

  healAll(): void {
    this.#cut.clear();
    this.faults = NO_NETWORK_FAULTS;
  }

  send(message: Message): void {
    const { loss, duplication, delayMsMax, slow } = this.faults;
    if (this.isCut(message.from, message.to) || this.#prng.chance(loss)) {
      this.#trace.message(this.#queue.nowMs, "lose", message);
      return;
    }
    const copies = this.#prng.chance(duplication) ? 2 : 1;
    for (let i = 0; i < copies; i += 1) {
      const delayMs = this.#prng.chance(slow)
        ? this.#prng.between(delayMsMax, SLOW_MS_MAX)
        : this.#prng.between(1, delayMsMax);
      this.#queue.after(delayMs, () => this.#deliver(message));
    }
  }
}

export interface NetworkOptions {
  readonly trace: Trace;
  readonly deliver: (message: Message) => void;
}
