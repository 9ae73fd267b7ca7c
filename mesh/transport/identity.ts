/**
 * Who this node is, and which mesh it belongs to. Both are kept in the node's database and nowhere
 * else: a node that lost its log comes back under a new name.
 */

import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys";
import type { PrivateKey } from "@libp2p/interface";
import type { MetaStore } from "../storage/storage.ts";
import { assertMeshKey, generateMeshKey, MESH_KEY_BYTES } from "./mesh_key.ts";

const IDENTITY_KEY = "identity";
const MESH_KEY = "mesh-key";

/** The stored identity, or a new one, durable before it is used. */
export async function loadIdentity(meta: MetaStore): Promise<PrivateKey> {
  const stored = meta.get(IDENTITY_KEY);
  if (stored !== undefined) {
    try {
      return privateKeyFromProtobuf(stored);
    } catch {
      throw new Error(
        "Cannot read the node's identity: it is damaged; remove the data directory to start anew",
      );
    }
  }
  const key = await generateKeyPair("Ed25519");
  await meta.put(IDENTITY_KEY, privateKeyToProtobuf(key));
  return key;
}

export interface MeshKey {
  readonly key: Uint8Array;
  /** Makes the key this node's own, if it is not yet. */
  keep(): Promise<void>;
}

/**
 * The stored mesh key; else the given one; else a new mesh. A given key is kept only when `keep` is
 * called, after a peer has accepted it: a mistyped one must not tie the data directory to nothing.
 */
export async function loadMeshKey(
  meta: MetaStore,
  given: Uint8Array | undefined,
): Promise<MeshKey> {
  const stored = meta.get(MESH_KEY);
  if (stored?.length === MESH_KEY_BYTES) {
    if (given !== undefined && Buffer.compare(stored, given) !== 0) {
      throw new Error(
        "Cannot join the mesh: this data directory belongs to another mesh; " +
          "use another one, or remove it to leave that mesh",
      );
    }
    return { key: Uint8Array.from(stored), keep: async () => {} };
  }
  if (given === undefined) {
    const key = generateMeshKey();
    await meta.put(MESH_KEY, key);
    return { key, keep: async () => {} };
  }
  assertMeshKey(given);
  const key = Uint8Array.from(given);
  let kept: Promise<void> | null = null;
  const keep = () => {
    kept ??= meta.put(MESH_KEY, key);
    return kept;
  };
  return { key, keep };
}
