/**
 * This node's knowledge of who belongs to the mesh: keeps the facts, adds its own, exchanges them
 * with other members, and answers whether an identity may do something. It decides at one place
 * what every connection and every request is held against. What it can't verify it never keeps.
 */

import { randomBytes } from "node:crypto";
import type { PrivateKey } from "@libp2p/interface";
import type { MeshLog } from "../counters.ts";
import { membershipLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import type { MetaStore } from "../storage/storage.ts";
import type { Gate } from "../transport/gate.ts";
import {
  claimOf,
  type Fact,
  parseFact,
  type SignedFact,
  signFact,
  ticketKey,
  verifyFact,
} from "./facts.ts";
import {
  foldFacts,
  type MemberState,
  type MeshMember,
  noMembers,
  type TicketState,
} from "./member_state.ts";
import type { MeshRole } from "./roles.ts";

const ROOT_KEY = "membership-root";
const FACT_PREFIX = "fact/";

/** The caller has not the role that this needs. */
export class ForbiddenError extends Error {
  override name = "ForbiddenError";
}

export interface MembershipInit {
  readonly self: NodeId;
  readonly privateKey: PrivateKey;
  readonly meshKey: Uint8Array;
  readonly meta: MetaStore;
  /** Milliseconds since 1970. */
  readonly wallMs: () => number;
  readonly log: MeshLog;
}

export interface TicketOrder {
  readonly roles: readonly MeshRole[];
  /** 0: any number. */
  readonly uses: number;
  readonly lifeMs: number;
}

export class Membership implements Gate {
  readonly #init: MembershipInit;
  readonly #facts = new Map<string, SignedFact>();
  readonly #listeners = new Set<(news: readonly SignedFact[]) => void>();
  #root: NodeId | null = null;
  #state: MemberState = noMembers;
  /** One change after the other: each is folded with all before it. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(init: MembershipInit) {
    this.#init = init;
  }

  /** Reads what this node knows. A node without a mesh founds one, unless it is to join another. */
  static async open(
    init: MembershipInit,
    options: { readonly joins: boolean },
  ): Promise<Membership> {
    const membership = new Membership(init);
    const root = init.meta.get(ROOT_KEY);
    if (root !== undefined) membership.#load(Buffer.from(root).toString("utf8"));
    else if (!options.joins) await membership.#found();
    return membership;
  }

  #load(root: NodeId): void {
    this.#root = root;
    for (const key of this.#init.meta.keys(FACT_PREFIX)) {
      try {
        const fact = parseFact(this.#init.meta.get(key) ?? new Uint8Array());
        this.#facts.set(fact.hash, fact);
      } catch (error) {
        // Other members tell it again.
        this.#init.log.warn({ key, error: String(error) }, "A stored fact cannot be read");
      }
    }
    this.#state = foldFacts(this.#facts.values(), root);
  }

  async #found(): Promise<void> {
    const { self, meta } = this.#init;
    await meta.put(ROOT_KEY, Buffer.from(self, "utf8"));
    this.#root = self;
    await this.#assert({ kind: "found", at: this.#init.wallMs() });
  }

  /** The identity whose word all others' is derived from; null before this node belongs. */
  get root(): NodeId | null {
    return this.#root;
  }

  /** Is this node itself a member? */
  get belongs(): boolean {
    return this.isMember(this.#init.self);
  }

  isMember(id: NodeId): boolean {
    return this.#state.members.has(id);
  }

  isRemoved(id: NodeId): boolean {
    return this.#state.removed.has(id);
  }

  /** A newcomer may show a ticket as long as there is one that is good. */
  mayKnock(id: NodeId): boolean {
    if (this.isRemoved(id)) return false;
    const now = this.#init.wallMs();
    return [...this.#state.tickets.values()].some((ticket) => whyUnusable(ticket, now) === null);
  }

  rolesOf(id: NodeId): readonly MeshRole[] {
    return this.#state.members.get(id)?.roles ?? [];
  }

  has(id: NodeId, role: MeshRole): boolean {
    return this.rolesOf(id).includes(role);
  }

  members(): MeshMember[] {
    return [...this.#state.members.values()];
  }

  tickets(): TicketState[] {
    return [...this.#state.tickets.values()];
  }

  /** Called after each change; `news` are the facts that came with it. */
  onChange(listener: (news: readonly SignedFact[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What this node knows, for another member or a newcomer. */
  facts(): SignedFact[] {
    return [...this.#facts.values()];
  }

  /** The secret of a new ticket and until when it is good. */
  async createTicket(order: TicketOrder): Promise<{ secret: Uint8Array; ticket: TicketState }> {
    this.#needAdministrator("make a ticket");
    const now = this.#init.wallMs();
    const open = this.tickets().filter((ticket) => whyUnusable(ticket, now) === null);
    if (open.length >= membershipLimits.openTicketsMax) {
      const why = `${open.length} of them are open; revoke some: node-mesh ticket revoke`;
      throw new ForbiddenError(`Cannot make a ticket: ${why}`);
    }
    const secret = Uint8Array.from(randomBytes(32));
    const { ticket } = await ticketKey(secret);
    const { roles, uses, lifeMs } = order;
    const expires = now + lifeMs;
    await this.#assert({ kind: "ticket", ticket, roles: [...roles], uses, expires, at: 0 });
    return { secret, ticket: this.#state.tickets.get(ticket)! };
  }

  async revokeTicket(ticket: string): Promise<void> {
    this.#needAdministrator("revoke a ticket");
    await this.#assert({ kind: "revoke", ticket, at: 0 });
  }

  async setRoles(id: NodeId, roles: readonly MeshRole[]): Promise<void> {
    this.#needAdministrator("give roles");
    if (!roles.includes("administer")) this.#keepAdministrator(id);
    await this.#assert({ kind: "roles", id, roles: [...roles], at: 0 });
  }

  async remove(id: NodeId): Promise<void> {
    this.#needAdministrator("remove a node");
    this.#keepAdministrator(id);
    await this.#assert({ kind: "remove", id, at: 0 });
  }

  #needAdministrator(verb: string): void {
    if (this.has(this.#init.self, "administer")) return;
    const remedy = "ask a node that has it (see: node-mesh nodes)";
    throw new ForbiddenError(`Cannot ${verb}: this node has not the role "administer"; ${remedy}`);
  }

  #keepAdministrator(id: NodeId): void {
    const left = this.members().filter((m) => m.id !== id && m.roles.includes("administer"));
    if (left.length > 0) return;
    throw new ForbiddenError(
      "Cannot take away the last administrator: nobody could take in a node any more; " +
        "give another node the role first",
    );
  }

  /** A newcomer's claim for the ticket whose secret it was given. */
  async claim(secret: Uint8Array): Promise<Uint8Array> {
    const { key, ticket } = await ticketKey(secret);
    const { self, meshKey, wallMs } = this.#init;
    const fact: Fact = { kind: "claim", ticket, id: self, at: wallMs() };
    return (await signFact(fact, { key, meshKey })).bytes;
  }

  /** Takes a newcomer in, or throws why not. */
  async admit(from: NodeId, bytes: Uint8Array): Promise<void> {
    if (this.isMember(from)) return;
    const refuse = (why: string) => new ForbiddenError(`${why}; ask for a new ticket`);
    if (this.isRemoved(from)) {
      throw new ForbiddenError("this node was removed from the mesh; use a new data directory");
    }
    const claim = claimOf(bytes);
    if (claim === null || claim.fact.id !== from) throw refuse("the ticket is no good");
    if (!(await verifyFact(claim, this.#init.meshKey))) throw refuse("the ticket is no good");
    const ticket = this.#state.tickets.get(claim.fact.ticket);
    if (ticket === undefined) throw refuse("the ticket is not known here");
    const why = whyUnusable(ticket, this.#init.wallMs());
    if (why !== null) throw refuse(why);
    await this.#assert({ kind: "admit", claim: claim.bytes, at: 0 });
    // Another newcomer may have taken the last use in between.
    if (!this.isMember(from)) throw refuse("the ticket was used up");
  }

  /** The newcomer's side: what a member answered. False if that does not make this one a member. */
  async adopt(root: NodeId, facts: readonly Uint8Array[]): Promise<boolean> {
    const { meta, self } = this.#init;
    if (this.#root !== null) return this.isMember(self);
    this.#root = root;
    await this.learn(facts);
    if (!this.isMember(self)) {
      this.#root = null;
      for (const hash of this.#facts.keys()) await meta.put(FACT_PREFIX + hash, null);
      this.#facts.clear();
      this.#state = noMembers;
      return false;
    }
    await meta.put(ROOT_KEY, Buffer.from(root, "utf8"));
    return true;
  }

  /** Takes in what another node told; how many facts were refused. */
  learn(told: readonly Uint8Array[]): Promise<number> {
    return this.#inTurn(async () => {
      let refused = 0;
      const fresh: SignedFact[] = [];
      for (const bytes of told) {
        const signed = parseFact(bytes);
        if (this.#facts.has(signed.hash)) continue;
        if (await verifyFact(signed, this.#init.meshKey)) fresh.push(signed);
        else refused += 1;
      }
      return refused + (await this.#take(fresh));
    });
  }

  /** Signs a fact of this node's own and takes it in; durable when resolved. */
  #assert(fact: Fact): Promise<number> {
    return this.#inTurn(async () => {
      // Later than what it follows from: the signer's own admission, all that was ordered before.
      const since = this.#state.members.get(this.#init.self)?.since ?? 0;
      const at = Math.max(this.#init.wallMs(), this.#state.newestAt + 1, since + 1);
      const { privateKey: key, meshKey } = this.#init;
      return this.#take([await signFact({ ...fact, at }, { key, meshKey })]);
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** Those that count are kept; how many do not. */
  async #take(fresh: readonly SignedFact[]): Promise<number> {
    if (fresh.length === 0 || this.#root === null) return fresh.length;
    const all = new Map(this.#facts);
    for (const fact of fresh) all.set(fact.hash, fact);
    if (all.size > membershipLimits.factsMax) {
      throw new RangeError(`Cannot keep more than ${membershipLimits.factsMax} membership facts`);
    }
    const state = foldFacts(all.values(), this.#root);
    const news = fresh.filter(({ hash }) => state.counted.has(hash));
    if (news.length === 0) return fresh.length;
    for (const fact of news) await this.#init.meta.put(FACT_PREFIX + fact.hash, fact.bytes);
    for (const fact of news) this.#facts.set(fact.hash, fact);
    this.#state = state;
    for (const listener of [...this.#listeners]) listener(news);
    return fresh.length - news.length;
  }
}

/** Why a ticket lets nobody in; null if it does. */
export function whyUnusable(ticket: TicketState, nowMs: number): string | null {
  if (ticket.isRevoked) return "the ticket was revoked";
  if (nowMs > ticket.expires) return "the ticket has expired";
  const isUsedUp = ticket.uses > 0 && ticket.used.length >= ticket.uses;
  return isUsedUp ? "the ticket was used up" : null;
}
