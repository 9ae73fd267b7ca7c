/**
 * What a newcomer is given: a ticket (key, identity and addresses of a member in one string), or a
 * multiaddr together with the key. Both are checked here; whoever calls gets a parsed target.
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

export interface JoinTarget {
  readonly key: Uint8Array;
  readonly id: NodeId;
  /** Each ends in /p2p/<id>. */
  readonly addrs: readonly string[];
}

const ticketCodec = new Codec(
  "the ticket",
  Type.Object({
    k: Type.Uint8Array({ minByteLength: MESH_KEY_BYTES, maxByteLength: MESH_KEY_BYTES }),
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

export function encodeTicket(target: JoinTarget): string {
  const suffix = `/p2p/${target.id}`;
  const a = target.addrs
    .slice(0, transportLimits.peerAddrsMax)
    .map((addr) => (addr.endsWith(suffix) ? addr.slice(0, -suffix.length) : addr));
  return PREFIX + sealed(ticketCodec.encode({ k: target.key, p: target.id, a }));
}

export function decodeTicket(text: string): JoinTarget {
  const trimmed = text.trim();
  const bad = (why: string) => new TypeError(`Cannot read the ticket: ${why}; ask for a new one`);
  if (!trimmed.startsWith(PREFIX)) throw bad(`it does not begin with "${PREFIX}"`);
  if (trimmed.length > TICKET_CHARS_MAX) throw bad("it is too long");
  const body = unsealed(trimmed.slice(PREFIX.length));
  if (body === null) throw bad("it is incomplete or mistyped");
  try {
    const { k, p, a } = ticketCodec.decode(body);
    if (!isNodeId(p)) throw new TypeError("it names no node");
    return { key: Uint8Array.from(k), id: p, addrs: a.map((addr) => withNodeId(addr, p)) };
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
  return { key: options.key, id, addrs: [multiaddr(text).toString()] };
}
