/**
 * What a newcomer is given: a ticket (the mesh key, who founded the mesh, identity and addresses of
 * a member, and the secret that lets in, in one string), or a multiaddr together with the key,
 * which brings a former member back. Both are checked here; whoever calls gets a parsed target.
 */

import { peerIdFromString } from "@libp2p/peer-id";
import { multiaddr } from "@multiformats/multiaddr";
import { Type } from "@sinclair/typebox";
import { Codec } from "../cbor.ts";
import { transportLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import { MESH_KEY_BYTES, sealed, unsealed } from "./mesh_key.ts";

const PREFIX = "nm1:";
const TICKET_CHARS_MAX = 8_192;
const SECRET_BYTES = 32;

/** What lets a newcomer in: the ticket's own secret, and the identity that all trust begins at. */
export interface Invitation {
  readonly secret: Uint8Array;
  readonly root: NodeId;
}

export interface JoinTarget {
  readonly key: Uint8Array;
  /** Null: only for a node that is a member already. */
  readonly invitation: Invitation | null;
  readonly id: NodeId;
  /** Each ends in /p2p/<id>. */
  readonly addrs: readonly string[];
}

const ticketCodec = new Codec(
  "the ticket",
  Type.Object({
    k: Type.Uint8Array({ minByteLength: MESH_KEY_BYTES, maxByteLength: MESH_KEY_BYTES }),
    s: Type.Uint8Array({ minByteLength: SECRET_BYTES, maxByteLength: SECRET_BYTES }),
    r: Type.String({ maxLength: 128 }),
    p: Type.String({ maxLength: 128 }),
    a: Type.Array(Type.String({ maxLength: transportLimits.addrCharsMax }), {
      maxItems: transportLimits.peerAddrsMax,
    }),
  }),
);

export function isTicket(text: string): boolean {
  return text.trim().startsWith(PREFIX);
}

export function isNodeId(text: string): boolean {
  try {
    return peerIdFromString(text).toString() === text;
  } catch {
    return false;
  }
}

/** The id at the end of a multiaddr; null without one. */
export function nodeIdOf(addr: string): NodeId | null {
  const id = multiaddr(addr)
    .getComponents()
    .findLast(({ name }) => name === "p2p")?.value;
  return id ?? null;
}

/** The address with /p2p/<id> at its end; throws TypeError for another id or no multiaddr. */
export function withNodeId(addr: string, id: NodeId): string {
  const found = nodeIdOf(addr);
  if (found === null) return `${multiaddr(addr)}/p2p/${id}`;
  if (found !== id) throw new TypeError(`Cannot use address "${addr}": it is not that of ${id}`);
  return multiaddr(addr).toString();
}

export function encodeTicket(target: JoinTarget & { invitation: Invitation }): string {
  const suffix = `/p2p/${target.id}`;
  const a = target.addrs
    .slice(0, transportLimits.peerAddrsMax)
    .map((addr) => (addr.endsWith(suffix) ? addr.slice(0, -suffix.length) : addr));
  const { secret, root } = target.invitation;
  return (
    PREFIX + sealed(ticketCodec.encode({ k: target.key, s: secret, r: root, p: target.id, a }))
  );
}

export function decodeTicket(text: string): JoinTarget {
  const trimmed = text.trim();
  const bad = (why: string) => new TypeError(`Cannot read the ticket: ${why}; ask for a new one`);
  if (!trimmed.startsWith(PREFIX)) throw bad(`it does not begin with "${PREFIX}"`);
  if (trimmed.length > TICKET_CHARS_MAX) throw bad("it is too long");
  const body = unsealed(trimmed.slice(PREFIX.length));
  if (body === null) throw bad("it is incomplete or mistyped");
  try {
    const { k, s, r, p, a } = ticketCodec.decode(body);
    if (!isNodeId(p) || !isNodeId(r)) throw new TypeError("it names no node");
    const invitation = { secret: Uint8Array.from(s), root: r };
    const addrs = a.map((addr) => withNodeId(addr, p));
    return { key: Uint8Array.from(k), invitation, id: p, addrs };
  } catch (error) {
    throw bad(error instanceof Error ? error.message : String(error));
  }
}

/** A ticket, or a multiaddr with /p2p/ID for which `key` must be given. */
export function parseJoinTarget(
  text: string,
  options: { key?: Uint8Array | undefined } = {},
): JoinTarget {
  if (isTicket(text)) return decodeTicket(text);
  const bad = (why: string) => new TypeError(`Cannot join "${text}": ${why}`);
  let id: NodeId | null;
  try {
    id = nodeIdOf(text);
  } catch {
    throw bad("it is neither a ticket nor a multiaddr like /ip4/192.0.2.1/tcp/4001/p2p/12D3...");
  }
  if (id === null || !isNodeId(id)) {
    throw bad("the node's identity is missing; the address must end in /p2p/<identity>");
  }
  if (options.key === undefined) {
    throw bad("the mesh key is missing; give it, or use a ticket made by a member");
  }
  return { key: options.key, invitation: null, id, addrs: [multiaddr(text).toString()] };
}
