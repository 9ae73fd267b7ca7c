/**
 * A console as the command line reads it: by offset, so that a node that restarts in between costs
 * neither a byte nor a second copy of one.
 */
import { type ApiClient, NodeGoneError } from "../api/client.ts";

/** A node that is restarted is back by then. */
const reconnectMsMax = 60_000;
const retryMs = 200;

export interface FollowOptions {
  readonly follow: boolean;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: Buffer) => void;
  /** Older output is not kept any more by the copies. */
  readonly onGap?: (bytes: number) => void;
  readonly onTrouble?: (text: string) => void;
}

/** Resolves when the VM has ended, all is read, or the signal says so. */
export async function followConsole(
  client: ApiClient,
  name: string,
  options: FollowOptions,
): Promise<"ended" | "read" | "stopped"> {
  const { follow, signal } = options;
  let next = 0;
  let goneSince: number | null = null;
  while (!signal.aborted) {
    try {
      for await (const piece of client.console(name, { offset: next, follow, signal })) {
        goneSince = null;
        if (piece.offset > next) options.onGap?.(piece.offset - next);
        if (piece.bytes.length > 0) options.onBytes(piece.bytes);
        next = piece.offset + piece.bytes.length;
        if (piece.closed) return "ended";
      }
      if (!follow) return "read";
    } catch (error) {
      if (signal.aborted) return "stopped";
      if (!(error instanceof NodeGoneError) || !follow || next === 0) throw error;
      if (goneSince === null) options.onTrouble?.("the node is gone; waiting for it");
      goneSince ??= performance.now();
      if (performance.now() - goneSince > reconnectMsMax) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
  return "stopped";
}
