/**
 * The mesh key: 32 random bytes that every member holds and nobody else. As text it carries a check
 * sum, so that a cut or mistyped key is noticed before any connection is tried.
 */

import { createHash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";

export const MESH_KEY_BYTES = 32;
const PREFIX = "nmk1:";
const CHECK_BYTES = 4;

export function generateMeshKey(): Uint8Array {
  return Uint8Array.from(randomBytes(MESH_KEY_BYTES));
}

export function checkSum(bytes: Uint8Array): Uint8Array {
  const sum = new Uint8Array(CHECK_BYTES);
  new DataView(sum.buffer).setUint32(0, crc32(bytes));
  return sum;
}

/** The bytes in `text` without their check sum; null if it does not fit. */
export function unsealed(text: string): Uint8Array | null {
  if (!/^[A-Za-z0-9_-]+$/.test(text)) return null;
  const bytes = Uint8Array.from(Buffer.from(text, "base64url"));
  if (bytes.length <= CHECK_BYTES) return null;
  const body = bytes.subarray(0, -CHECK_BYTES);
  return Buffer.compare(checkSum(body), bytes.subarray(-CHECK_BYTES)) === 0 ? body : null;
}

export function sealed(bytes: Uint8Array): string {
  return Buffer.concat([bytes, checkSum(bytes)]).toString("base64url");
}

export function meshKeyToText(key: Uint8Array): string {
  assertMeshKey(key);
  return PREFIX + sealed(key);
}

export function meshKeyFromText(text: string): Uint8Array {
  const trimmed = text.trim();
  if (!trimmed.startsWith(PREFIX)) {
    throw new TypeError(
      `Cannot read the mesh key: it does not begin with "${PREFIX}"; copy it from a member's node`,
    );
  }
  const key = unsealed(trimmed.slice(PREFIX.length));
  if (key?.length !== MESH_KEY_BYTES) {
    throw new TypeError("Cannot read the mesh key: it is incomplete or mistyped; copy it again");
  }
  return Uint8Array.from(key);
}

export function assertMeshKey(key: Uint8Array): void {
  if (key.length !== MESH_KEY_BYTES) {
    throw new RangeError(`Cannot use a mesh key of ${key.length} bytes: it must have 32`);
  }
}

/**
 * What goes into the handshake: both ends must have the same, and it does not give the key away.
 */
export function noisePrologue(key: Uint8Array): Uint8Array {
  assertMeshKey(key);
  const hash = createHash("sha256").update("node-mesh noise prologue 1\0").update(key);
  return Uint8Array.from(hash.digest());
}
