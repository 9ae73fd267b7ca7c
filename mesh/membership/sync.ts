/**
 * How facts of the membership travel: a new one goes to all connected members at once, who pass on
 * what was news to them; whenever two members meet, and now and then afterwards, each asks the
 * other for what it lacks. A newcomer shows its ticket on a protocol of its own.
 */

import { Type } from "@sinclair/typebox";
import type { Clock, Timer } from "../clock.ts";
import type { MeshLog } from "../counters.ts";
import { membershipLimits } from "../limits.ts";
import type { NodeId, Prng } from "../raft/types.ts";
import type { MeshNode } from "../transport/mesh_node.ts";
import { defineRpc } from "../transport/rpc.ts";
import type { SignedFact } from "./facts.ts";
import type { Membership } from "./membership.ts";

const fact = Type.Uint8Array({ maxByteLength: membershipLimits.signedFactBytesMax });
const facts = Type.Array(fact, { maxItems: membershipLimits.factsMax });
const HASH_BYTES = 16;

const JOIN = defineRpc({
  name: "mesh.join",
  request: Type.Object({ claim: fact }),
  response: Type.Object({ facts }),
});

const TELL = defineRpc({
  name: "mesh.tell",
  request: Type.Object({ facts }),
  response: Type.Object({}),
});

const LACKING = defineRpc({
  name: "mesh.lacking",
  request: Type.Object({
    have: Type.Uint8Array({ maxByteLength: membershipLimits.factsMax * HASH_BYTES }),
  }),
  response: Type.Object({ facts }),
});

export interface MembershipSyncInit {
  readonly membership: Membership;
  readonly node: MeshNode;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly log: MeshLog;
}

export class MembershipSync {
  readonly #init: MembershipSyncInit;
  readonly #ends: (() => void)[];
  readonly #timer: Timer;

  constructor(init: MembershipSyncInit) {
    this.#init = init;
    const { node, membership, clock } = init;
    this.#ends = [
      node.knocks.register(JOIN, ({ claim }, { from }) => this.#admit(from, claim)),
      node.rpc.register(TELL, async ({ facts: told }, { from }) => {
        await this.#learn(from, told);
        return {};
      }),
      node.rpc.register(LACKING, ({ have }) => ({ facts: this.#lacking(have) })),
      node.onPeer(({ kind, id }) => {
        if (kind === "up") void this.#ask(id);
      }),
      membership.onChange((news) => this.#onChange(news)),
    ];
    this.#timer = clock.every(membershipLimits.askEveryMs, () => {
      const ids = this.#connected();
      const id = ids[Math.floor(init.prng.next() * ids.length)];
      if (id !== undefined) void this.#ask(id);
    });
  }

  /** Shows a ticket to a member; resolves when this node belongs. */
  async join(
    peer: NodeId,
    options: { secret: Uint8Array; root: NodeId; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const { membership, node } = this.#init;
    const claim = await membership.claim(options.secret);
    const answer = await node.knocks.call(peer, JOIN, { claim }, { signal: options.signal });
    if (await membership.adopt(options.root, answer.facts)) return;
    throw new Error("the answer does not make this node a member; ask for a new ticket");
  }

  async #admit(from: NodeId, claim: Uint8Array): Promise<{ facts: Uint8Array[] }> {
    const { node, membership, log } = this.#init;
    try {
      await membership.admit(from, claim);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      node.refusals.note("joins_refused", { peer: from }, `Refused ${from}: ${why}`);
      throw error;
    }
    log.info({ peer: from }, "A node joined the mesh");
    return { facts: membership.facts().map(({ bytes }) => bytes) };
  }

  #onChange(news: readonly SignedFact[]): void {
    const told = { facts: news.map(({ bytes }) => bytes) };
    const { node, membership } = this.#init;
    const calls = this.#connected().map(async (id) => {
      const isFarewell = !membership.isMember(id);
      const limits = isFarewell ? { timeoutMs: membershipLimits.farewellMs } : {};
      // Whoever misses it asks for what it lacks when the next link comes up, or a minute later.
      await node.rpc.call(id, TELL, told, limits).catch(() => {});
      if (isFarewell) node.membersChanged();
    });
    void Promise.all(calls);
    if (news.every(({ fact }) => fact.kind !== "remove")) node.membersChanged();
    else this.#init.clock.after(membershipLimits.farewellMs, () => node.membersChanged());
  }

  #connected(): NodeId[] {
    return this.#init.node
      .peers()
      .filter(({ connected }) => connected)
      .map(({ id }) => id);
  }

  async #ask(id: NodeId): Promise<void> {
    const { membership, node } = this.#init;
    const hashes = membership.facts().map(({ hash }) => Buffer.from(hash, "hex"));
    try {
      const have = Uint8Array.from(Buffer.concat(hashes));
      await this.#learn(id, (await node.rpc.call(id, LACKING, { have })).facts);
    } catch (error) {
      this.#init.log.debug({ peer: id, error: String(error) }, "Facts could not be asked for");
    }
  }

  async #learn(from: NodeId, told: readonly Uint8Array[]): Promise<void> {
    const refused = await this.#init.membership.learn(told);
    if (refused > 0) this.#init.node.refusals.counters.add("facts_refused", refused);
    if (refused > 0) this.#init.log.debug({ peer: from, refused }, "Refused membership facts");
  }

  #lacking(have: Uint8Array): Uint8Array[] {
    const known = new Set<string>();
    for (let at = 0; at + HASH_BYTES <= have.length; at += HASH_BYTES) {
      known.add(Buffer.from(have.subarray(at, at + HASH_BYTES)).toString("hex"));
    }
    return this.#init.membership
      .facts()
      .filter(({ hash }) => !known.has(hash))
      .map(({ bytes }) => bytes);
  }

  stop(): void {
    this.#timer.cancel();
    for (const end of this.#ends) end();
  }
}
