/**
 * Follows a VM's console from outside, through one node after the other: when the one asked dies,
 * another one is asked for what comes after the last byte seen.
 */
import { NodeGoneError } from "../api/client.ts";
import type { NodeProcess } from "./cluster.ts";

const retryMs = 50;

export interface FollowerOptions {
  readonly vm: string;
  /** The node to ask next; another one than the one that just failed, if there is one. */
  readonly choose: (failed: NodeProcess | null) => NodeProcess;
  readonly onBytes: (bytes: Buffer, from: NodeProcess) => void;
  readonly onMove?: (from: NodeProcess, to: NodeProcess) => void;
}

export class Follower {
  readonly #options: FollowerOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #reading = new AbortController();
  #next = 0;
  #gapBytes = 0;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#running = this.#follow();
  }

  get offset(): number {
    return this.#next;
  }

  /** Bytes that no copy had any more when they were asked for. */
  get gapBytes(): number {
    return this.#gapBytes;
  }

  /** Asks whom to read from again, for one who is known to have gone silent. */
  move(): void {
    this.#reading.abort();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    let node: NodeProcess | null = null;
    while (!signal.aborted) {
      try {
        const chosen = this.#options.choose(node);
        if (node !== null && chosen !== node) this.#options.onMove?.(node, chosen);
        node = chosen;
        if (await this.#read(chosen)) return;
      } catch (error) {
        const moving = this.#reading.signal.aborted || signal.aborted;
        const expected = error instanceof NodeGoneError || moving;
        if (!expected && process.env["NODE_MESH_DEMO_DEBUG"] === "1") console.error(error);
      }
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  /** True when the VM has ended. */
  async #read(node: NodeProcess): Promise<boolean> {
    this.#reading = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, this.#reading.signal]);
    const query = { offset: this.#next, follow: true, signal };
    for await (const piece of node.client.console(this.#options.vm, query)) {
      this.#gapBytes += Math.max(0, piece.offset - this.#next);
      this.#next = piece.offset + piece.bytes.length;
      this.#options.onBytes(piece.bytes, node);
      if (piece.closed) return true;
    }
    return false;
  }
}
