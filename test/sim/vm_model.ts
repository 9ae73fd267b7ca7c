/**
 * A VM small enough to simulate by the thousand, with what makes a real one hard: its primary runs
 * ahead of commit, what it says depends on chance that only the log records, and it says everything
 * in numbered outputs that must reach the outside exactly once, in order, from one history.
 */

import type { Entry } from "../../mesh/raft/mod.ts";

/** One recorded chunk: outputs `first` to `first + count - 1`, made from `nonce`. */
export interface Chunk {
  readonly first: number;
  readonly count: number;
  readonly nonce: number;
}

const CHUNK_BYTES = 12;

export function encodeChunk(chunk: Chunk, paddingBytes: number): Uint8Array {
  const bytes = new Uint8Array(CHUNK_BYTES + paddingBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, chunk.first);
  view.setUint32(4, chunk.count);
  view.setUint32(8, chunk.nonce);
  return bytes;
}

export function decodeChunk(data: Uint8Array): Chunk {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return { first: view.getUint32(0), count: view.getUint32(4), nonce: view.getUint32(8) };
}

/** What a copy of the VM is after replaying the log so far. */
export class VmCopy {
  /** Everything it said, by output number: a new primary may have to say it again. */
  readonly outputs: number[];
  /** A hash over all chunks: two copies at the same place have the same. */
  history: number;

  constructor(outputs: readonly number[], history: number) {
    this.outputs = [...outputs];
    this.history = history;
  }

  /** Why the entry does not continue this history; null when it does. */
  apply(entry: Entry): string | null {
    if (entry.kind !== "data") return null;
    const chunk = decodeChunk(entry.data);
    if (chunk.first !== this.outputs.length) {
      const place = `the copy is at ${this.outputs.length}`;
      return `entry ${entry.index} begins at output ${chunk.first}, ${place}`;
    }
    for (let i = 0; i < chunk.count; i += 1) this.outputs.push(outputContent(chunk, i));
    this.history = (Math.imul(this.history ^ chunk.nonce, 0x01000193) + entry.index) | 0;
    return null;
  }
}

/** Whoever is connected to the VM: drops what it has seen, notices anything else. */
export class Reader {
  readonly #seen: number[] = [];

  get count(): number {
    return this.#seen.length;
  }

  /** Takes output `number`; why that breaks the promise, or null. */
  take(number: number, content: number): string | null {
    if (number > this.#seen.length) return `output ${number} before ${this.#seen.length}`;
    if (number === this.#seen.length) {
      this.#seen.push(content);
      return null;
    }
    return this.#seen[number] === content ? null : `output ${number} came twice, not the same`;
  }
}

/** What the chunk's output number `first + i` says. */
export function outputContent(chunk: Chunk, i: number): number {
  return (Math.imul(chunk.nonce, 0x85ebca6b) ^ (chunk.first + i)) | 0;
}
