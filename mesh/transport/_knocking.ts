/**
 * Connections of identities that are no members: newcomers with a ticket. Few at a time, each for a
 * moment. Once a newcomer belongs it comes again, so that everything begins as with any member.
 */

import type { Connection } from "@libp2p/interface";
import type { Clock } from "../clock.ts";
import { membershipLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import type { Gate } from "./gate.ts";

/** The answer to the newcomer is still on its way. */
const DISMISS_MS = 1_000;

export class Knocking implements Gate {
  readonly #gate: Gate;
  readonly #clock: Clock;
  readonly #connections = new Map<Connection, NodeId>();
  /** Whom this node itself shows a ticket to. */
  sponsor: NodeId | null = null;

  constructor(init: { readonly gate: Gate; readonly clock: Clock }) {
    this.#gate = init.gate;
    this.#clock = init.clock;
  }

  isMember(id: NodeId): boolean {
    return this.#gate.isMember(id);
  }

  mayKnock(id: NodeId): boolean {
    return this.#connections.size < membershipLimits.knockingMax && this.#gate.mayKnock(id);
  }

  isKnocking(id: NodeId): boolean {
    return id === this.sponsor || [...this.#connections.values()].includes(id);
  }

  came(connection: Connection): void {
    const id = connection.remotePeer.toString();
    if (id === this.sponsor) return;
    this.#connections.set(connection, id);
    const timer = this.#clock.after(membershipLimits.knockMs, () => {
      connection.abort(new Error("the newcomer showed no ticket in time"));
    });
    connection.addEventListener("close", () => {
      timer.cancel();
      this.#connections.delete(connection);
    });
  }

  /** It belongs now: the connection ends when the answer has left. */
  dismissSoon(id: NodeId): void {
    this.#clock.after(DISMISS_MS, () => {
      for (const [connection, knocker] of this.#connections) {
        if (knocker === id) connection.abort(new Error("the newcomer belongs now"));
      }
    });
  }
}
