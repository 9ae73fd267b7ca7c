/**
 * Content-addressed files: kernels, initial file systems, disks. A blob's name is its SHA-256, so
 * what a peer sends needs no trust: it is verified on arrival. A blob appears under its name only
 * when it is whole and on disk; what an interrupted write left is removed at the next start.
 */

import { createHash, type Hash, randomUUID } from "node:crypto";
import { createReadStream, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "@sinclair/typebox";
import { pipe } from "it-pipe";
import { type MeshLog, silentLog } from "../counters.ts";
import { blobLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import { defineRpc, defineRpcStream, type Rpc, type RpcContext } from "../transport/rpc.ts";
import { bytesUpTo, stallLimited } from "./_chunks.ts";
import { Shared } from "./_shared.ts";

const HASH = /^[0-9a-f]{64}$/;

const hashSchema = Type.String({ pattern: "^[0-9a-f]{64}$" });

const FIND = defineRpc({
  name: "blob.find",
  request: Type.Object({ hash: hashSchema }),
  response: Type.Object({ bytes: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]) }),
});

const READ = defineRpcStream({
  name: "blob.read",
  request: Type.Object({ hash: hashSchema, offset: Type.Integer({ minimum: 0 }) }),
  item: Type.Uint8Array({ maxByteLength: blobLimits.chunkBytes }),
});

export interface BlobSource {
  /** Peers that may be asked. */
  readonly peers: () => readonly NodeId[];
  readonly transfers: Rpc;
}

export interface BlobStoreInit {
  readonly path: string;
  readonly source?: BlobSource;
  readonly log?: MeshLog;
}

export interface BlobInfo {
  readonly hash: string;
  readonly bytes: number;
}

export interface PutOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface FetchOptions {
  readonly signal?: AbortSignal | undefined;
  /** Asked first; then every connected peer. */
  readonly from?: readonly NodeId[] | undefined;
  readonly onProgress?: (progress: { bytes: number; total: number }) => void;
}

/** A partly received blob. */
interface Partial {
  readonly file: FileHandle;
  hash: Hash;
  bytes: number;
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < chunk.length) {
    const part = await file.write(chunk, written, chunk.length - written, position + written);
    written += part.bytesWritten;
  }
}

export class BlobStore {
  readonly #path: string;
  readonly #temporary: string;
  readonly #init: BlobStoreInit;
  readonly #log: MeshLog;
  readonly #blobs = new Map<string, number>();
  readonly #fetching = new Map<string, Shared<string>>();
  readonly #stopping = new AbortController();
  readonly #unregister: (() => void)[] = [];

  private constructor(init: BlobStoreInit) {
    this.#init = init;
    this.#path = init.path;
    this.#temporary = join(init.path, "incoming");
    this.#log = init.log ?? silentLog;
  }

  /** Opens, and answers other nodes if there is a source. */
  static open(init: BlobStoreInit): BlobStore {
    const store = new BlobStore(init);
    rmSync(store.#temporary, { recursive: true, force: true });
    mkdirSync(store.#temporary, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(store.#path)) {
      if (HASH.test(name)) store.#blobs.set(name, statSync(join(store.#path, name)).size);
    }
    if (init.source !== undefined) store.#serve(init.source.transfers);
    return store;
  }

  #serve(transfers: Rpc): void {
    this.#unregister.push(
      transfers.register(FIND, ({ hash }) => ({ bytes: this.#blobs.get(hash) ?? null })),
      transfers.registerStream(READ, (request, context) => this.#read(request, context)),
    );
  }

  async *#read(
    request: { hash: string; offset: number },
    context: RpcContext,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const path = this.path(request.hash);
    if (path === null) throw new Error(`there is no blob ${request.hash} here`);
    const options = { start: request.offset, highWaterMark: blobLimits.chunkBytes };
    yield* createReadStream(path, { ...options, signal: context.signal });
  }

  has(hash: string): boolean {
    return this.#blobs.has(hash);
  }

  /** Where the blob lies; it must not be written to. */
  path(hash: string): string | null {
    return this.#blobs.has(hash) ? join(this.#path, hash) : null;
  }

  list(): BlobInfo[] {
    return [...this.#blobs].map(([hash, bytes]) => ({ hash, bytes }));
  }

  /** Takes in a file or a stream of bytes; durable when resolved. */
  async put(
    source: { readonly path: string } | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<BlobInfo> {
    const signal = this.#signal(options.signal);
    const chunks =
      "path" in source
        ? createReadStream(source.path, { highWaterMark: blobLimits.chunkBytes, signal })
        : source;
    return this.#withTemporary(async (part, name) => {
      await this.#receive(part, chunks, { bytesMax: blobLimits.blobBytesMax, signal });
      const hash = part.hash.digest("hex");
      await this.#finish(part, name, hash);
      return { hash, bytes: part.bytes };
    });
  }

  #signal(signal: AbortSignal | undefined): AbortSignal {
    const own = this.#stopping.signal;
    return signal === undefined ? own : AbortSignal.any([signal, own]);
  }

  async #withTemporary<T>(work: (part: Partial, name: string) => Promise<T>): Promise<T> {
    const name = join(this.#temporary, randomUUID());
    const file = await open(name, "wx", 0o600);
    try {
      return await work({ file, hash: createHash("sha256"), bytes: 0 }, name);
    } finally {
      await file.close();
      await rm(name, { force: true });
    }
  }

  async #receive(
    part: Partial,
    chunks: AsyncIterable<Uint8Array>,
    options: { bytesMax: number; signal: AbortSignal; onChunk?: () => void },
  ): Promise<void> {
    await pipe(chunks, bytesUpTo(options.bytesMax - part.bytes), async (limited) => {
      for await (const chunk of limited) {
        options.signal.throwIfAborted();
        part.hash.update(chunk);
        await writeAll(part.file, chunk, part.bytes);
        part.bytes += chunk.length;
        options.onChunk?.();
      }
    });
    options.signal.throwIfAborted();
  }

  async #finish(part: Partial, name: string, hash: string): Promise<void> {
    if (this.#blobs.has(hash)) return;
    await part.file.sync();
    await rename(name, join(this.#path, hash));
    await syncDirectory(this.#path);
    this.#blobs.set(hash, part.bytes);
  }

  async remove(hash: string): Promise<void> {
    if (!this.#blobs.delete(hash)) return;
    await rm(join(this.#path, hash), { force: true });
  }

  /** The blob's path here, after fetching it from whoever has it. */
  async fetch(hash: string, options: FetchOptions = {}): Promise<string> {
    if (!HASH.test(hash)) throw new TypeError(`Cannot fetch blob "${hash}": that is no SHA-256`);
    const path = this.path(hash);
    if (path !== null) return path;
    let shared = this.#fetching.get(hash);
    if (shared === undefined || shared.isAbandoned) {
      const started = new Shared((signal) => this.#fetchAny(hash, options, this.#signal(signal)));
      shared = started;
      this.#fetching.set(hash, started);
      const forget = () => {
        if (this.#fetching.get(hash) === started) this.#fetching.delete(hash);
      };
      started.promise.then(forget, forget);
    }
    return shared.wait(this.#signal(options.signal));
  }

  async #fetchAny(hash: string, options: FetchOptions, signal: AbortSignal): Promise<string> {
    const { source } = this.#init;
    if (source === undefined) throw new Error(`Cannot fetch blob ${hash}: no network`);
    return this.#withTemporary(async (part, name) => {
      let why = "no connected node has it";
      for (const { id, bytes } of await this.#holders(source, hash, { ...options, signal })) {
        try {
          await this.#fetchFrom(source, { hash, id, total: bytes, part, signal, options });
          await this.#finish(part, name, hash);
          return join(this.#path, hash);
        } catch (error) {
          signal.throwIfAborted();
          why = error instanceof Error ? error.message : String(error);
          if ((error as NodeJS.ErrnoException).code !== undefined) break;
          this.#log.warn({ peer: id, hash, error: why }, "A blob could not be had from this peer");
        }
      }
      throw new Error(`Cannot fetch blob ${hash}: ${why}`);
    });
  }

  /** Who has the blob, those that were named first. */
  async #holders(
    source: BlobSource,
    hash: string,
    options: FetchOptions,
  ): Promise<{ id: NodeId; bytes: number }[]> {
    const named = options.from ?? [];
    const ids = [...new Set([...named, ...source.peers()])];
    const { signal } = options;
    const answers = await Promise.all(
      ids.map(async (id) => {
        try {
          const limits = { signal, timeoutMs: blobLimits.askTimeoutMs };
          const { bytes } = await source.transfers.call(id, FIND, { hash }, limits);
          return bytes === null ? null : { id, bytes };
        } catch {
          return null;
        }
      }),
    );
    signal?.throwIfAborted();
    return answers.filter((answer) => answer !== null);
  }

  /** Goes on where the last source broke off; begins anew when the bytes prove wrong. */
  async #fetchFrom(
    source: BlobSource,
    fetching: {
      hash: string;
      id: NodeId;
      total: number;
      part: Partial;
      signal: AbortSignal;
      options: FetchOptions;
    },
  ): Promise<void> {
    const { hash, id, part, total, signal, options } = fetching;
    if (total > blobLimits.blobBytesMax || total < part.bytes) {
      throw new Error(`${id} says it has ${total} bytes`);
    }
    const request = { hash, offset: part.bytes };
    const chunks = source.transfers.stream(id, READ, request, { signal });
    const onChunk = () => options.onProgress?.({ bytes: part.bytes, total });
    const limited = stallLimited(chunks, blobLimits.stallMs);
    await this.#receive(part, limited, { bytesMax: total, signal, onChunk });
    if (part.bytes === total && part.hash.copy().digest("hex") === hash) return;
    const had = part.bytes;
    part.hash = createHash("sha256");
    part.bytes = 0;
    await part.file.truncate(0);
    throw new Error(`${id} sent ${had} bytes that are not those of the blob`);
  }

  async close(): Promise<void> {
    for (const unregister of this.#unregister.splice(0)) unregister();
    this.#stopping.abort(new Error("the node is stopping"));
    await Promise.allSettled([...this.#fetching.values()].map(({ promise }) => promise));
  }
}
