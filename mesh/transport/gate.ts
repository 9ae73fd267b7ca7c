/** Whom a node lets in, asked by the network for every connection and every stream. */

import type { NodeId } from "../raft/types.ts";

export interface Gate {
  /** A member of the mesh: all protocols. */
  isMember(id: NodeId): boolean;
  /** No member, but may have a connection for a moment to show a ticket. */
  mayKnock(id: NodeId): boolean;
}

/** Whoever holds the mesh key belongs: for meshes whose nodes are set up by one hand. */
export const keyIsEnough: Gate = { isMember: () => true, mayKnock: () => false };
