/**
 * What members of a mesh state about its membership, each statement signed by whoever makes it:
 * who may belong, with which roles, by which tickets, and who no longer does. A fact is immutable
 * and means the same on every node; what all of them together say is in `member_state.ts`.
 */

import { createHash } from "node:crypto";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import type { Ed25519PrivateKey, PrivateKey } from "@libp2p/interface";
import { peerIdFromPrivateKey, peerIdFromString } from "@libp2p/peer-id";
import { type Static, Type } from "@sinclair/typebox";
import { Codec, SchemaError } from "../cbor.ts";
import { membershipLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import { meshRoles } from "./roles.ts";

const id = Type.String({ minLength: 1, maxLength: 128 });
/** Milliseconds since 1970, raised above all that the signer knew: it orders cause and effect. */
const at = Type.Integer({ minimum: 0, maximum: 2 ** 48 });
const roles = Type.Array(Type.Union(meshRoles.map((role) => Type.Literal(role))), {
  maxItems: meshRoles.length,
  uniqueItems: true,
});
const kind = <K extends string>(name: K) => Type.Literal(name);

const factSchema = Type.Union([
  /** The first member makes the mesh; the signer is the root of all trust. */
  Type.Object({ kind: kind("found"), at }),
  /** Gives a known identity other roles, or takes a new one in. */
  Type.Object({ kind: kind("roles"), id, roles, at }),
  /** Whoever holds the ticket's key may join, `uses` times (0: any number), until `expires`. */
  Type.Object({
    kind: kind("ticket"),
    ticket: id,
    roles,
    uses: Type.Integer({ minimum: 0, maximum: membershipLimits.ticketUsesMax }),
    expires: at,
    at,
  }),
  Type.Object({ kind: kind("revoke"), ticket: id, at }),
  /** A member saw a newcomer's claim and found it good. */
  Type.Object({
    kind: kind("admit"),
    claim: Type.Uint8Array({ maxByteLength: membershipLimits.factBytesMax }),
    at,
  }),
  /** For ever: a removed identity never belongs again. */
  Type.Object({ kind: kind("remove"), id, at }),
  /** Signed with the ticket's own key by the newcomer; counts only inside of an `admit`. */
  Type.Object({ kind: kind("claim"), ticket: id, id, at }),
]);

export type Fact = Static<typeof factSchema>;

const factCodec = new Codec("the fact", factSchema);
const envelopeCodec = new Codec(
  "the signed fact",
  Type.Object({
    b: Type.Uint8Array({ maxByteLength: membershipLimits.factBytesMax }),
    s: id,
    g: Type.Uint8Array({ minByteLength: 64, maxByteLength: 64 }),
  }),
);

export interface SignedFact {
  /** Hash of the whole statement. */
  readonly hash: string;
  readonly signer: NodeId;
  readonly fact: Fact;
  /** As it travels and is stored. */
  readonly bytes: Uint8Array;
}

/** What is signed: bound to one mesh, so that no fact of another one can be shown here. */
function signedBytes(meshKey: Uint8Array, body: Uint8Array): Uint8Array {
  const mesh = createHash("sha256").update("node-mesh facts 1\0").update(meshKey).digest();
  return Buffer.concat([mesh, body]);
}

export async function signFact(
  fact: Fact,
  options: { readonly key: PrivateKey; readonly meshKey: Uint8Array },
): Promise<SignedFact> {
  const b = factCodec.encode(factCodec.check(fact));
  const g = Uint8Array.from(await options.key.sign(signedBytes(options.meshKey, b)));
  const s = peerIdFromPrivateKey(options.key).toString();
  return parseFact(envelopeCodec.encode({ b, s, g }));
}

/** Reads a statement without looking at its signature; throws SchemaError. */
export function parseFact(bytes: Uint8Array): SignedFact {
  const { b, s } = envelopeCodec.decode(bytes);
  const own = Uint8Array.from(bytes);
  const hash = createHash("sha256").update(own).digest("hex").slice(0, 32);
  return { hash, signer: s, fact: factCodec.decode(b), bytes: own };
}

/** Did the signer sign it, for this mesh? The claim inside of an admission is looked at, too. */
export async function verifyFact(signed: SignedFact, meshKey: Uint8Array): Promise<boolean> {
  const { b, s, g } = envelopeCodec.decode(signed.bytes);
  if (!(await isSignedBy(s, signedBytes(meshKey, b), g))) return false;
  if (signed.fact.kind !== "admit") return true;
  const claim = claimOf(signed.fact.claim);
  return claim !== null && (await verifyFact(claim, meshKey));
}

async function isSignedBy(signer: NodeId, bytes: Uint8Array, signature: Uint8Array) {
  try {
    const { publicKey } = peerIdFromString(signer);
    return publicKey !== undefined && (await publicKey.verify(bytes, signature));
  } catch {
    return false;
  }
}

/** The newcomer's claim; null unless it is one, signed by the very ticket that it names. */
export function claimOf(
  bytes: Uint8Array,
): (SignedFact & { fact: Fact & { kind: "claim" } }) | null {
  try {
    const claim = parseFact(bytes);
    if (claim.fact.kind !== "claim" || claim.fact.ticket !== claim.signer) return null;
    return claim as SignedFact & { fact: Fact & { kind: "claim" } };
  } catch (error) {
    if (error instanceof SchemaError) return null;
    throw error;
  }
}

/** The key pair of a ticket, from the secret in it; its public half is the ticket's name. */
export async function ticketKey(
  secret: Uint8Array,
): Promise<{ readonly key: Ed25519PrivateKey; readonly ticket: string }> {
  const key = await generateKeyPairFromSeed("Ed25519", secret);
  return { key, ticket: peerIdFromPrivateKey(key).toString() };
}
