/**
 * A VM's console on one WebSocket: output from an offset on, as binary messages of an 8-byte offset
 * and bytes; input as JSON with source and number, acknowledged when it is committed. A client that
 * loses the connection comes back with the offset after its last byte, and sends again what was not
 * acknowledged: each byte is shown once, each key arrives once.
 */
import { Value } from "@sinclair/typebox/value";
import type { WebSocket } from "ws";
import { readConsole } from "../daemon/console_reader.ts";
import type { DaemonParts } from "../daemon/daemon.ts";
import { oneLine } from "../user_error.ts";
import type { VmSpec } from "../vm/vm_spec.ts";
import { ApiError, problemOf } from "./problem.ts";
import { apiLimits, type SocketInput, SocketInputSchema, type SocketLine } from "./schemas.ts";

const offsetBytes = 8;
/** Between two looks whether a slow reader has taken something in. */
const roomPollMs = 20;
/** Codes of RFC 6455. */
const closedNormally = 1000;
const closedByPolicy = 1008;
const closedByError = 1011;

export interface ConsoleSocketOptions {
  readonly spec: VmSpec;
  readonly offset: number;
}

export function serveConsole(
  socket: WebSocket,
  daemon: DaemonParts,
  options: ConsoleSocketOptions,
): void {
  const left = new AbortController();
  let isAlive = true;
  const heartbeat = setInterval(() => {
    if (!isAlive) socket.terminate();
    isAlive = false;
    socket.ping();
  }, apiLimits.heartbeatMs);
  socket.on("pong", () => {
    isAlive = true;
  });
  socket.on("close", () => {
    clearInterval(heartbeat);
    left.abort();
  });
  socket.on("error", () => socket.terminate());
  const typist = new SocketTypist(socket, daemon, { spec: options.spec, signal: left.signal });
  socket.on("message", (data, isBinary) => typist.take(isBinary ? null : String(data)));
  void sendOutput(socket, daemon, { ...options, signal: left.signal });
}

async function sendOutput(
  socket: WebSocket,
  daemon: DaemonParts,
  query: ConsoleSocketOptions & { readonly signal: AbortSignal },
): Promise<void> {
  const { mesh, router } = daemon;
  try {
    const parts = { mesh, router, spec: query.spec };
    for await (const piece of readConsole(parts, { ...query, follow: true })) {
      const message = Buffer.alloc(offsetBytes + piece.bytes.length);
      message.writeBigUInt64BE(BigInt(piece.offset));
      message.set(piece.bytes, offsetBytes);
      if (piece.bytes.length > 0) socket.send(message);
      if (!(await hasRoom(socket, query.signal))) return;
      if (piece.closed) {
        say(socket, { kind: "ended" });
        socket.close(closedNormally);
        return;
      }
    }
  } catch (error) {
    say(socket, { kind: "problem", seq: null, problem: problemOf(error) });
    socket.close(closedByError);
  }
}

/** Waits for a slow reader; one that takes nothing in is disconnected. */
async function hasRoom(socket: WebSocket, signal: AbortSignal): Promise<boolean> {
  const deadline = performance.now() + apiLimits.streamStallMs;
  while (socket.bufferedAmount > apiLimits.streamBufferBytes) {
    if (performance.now() > deadline) socket.terminate();
    if (signal.aborted || socket.readyState !== socket.OPEN) return false;
    await new Promise((resolve) => setTimeout(resolve, roomPollMs));
  }
  return !signal.aborted;
}

function say(socket: WebSocket, line: SocketLine): void {
  if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(line));
}

/** Hands on input in the order in which it came, one piece at a time. */
class SocketTypist {
  readonly #socket: WebSocket;
  readonly #daemon: DaemonParts;
  readonly #options: { readonly spec: VmSpec; readonly signal: AbortSignal };
  #waiting: SocketInput[] = [];
  /** What failed: nothing behind it may be taken before it. */
  #failed: SocketInput | null = null;
  #isSending = false;

  constructor(
    socket: WebSocket,
    daemon: DaemonParts,
    options: { readonly spec: VmSpec; readonly signal: AbortSignal },
  ) {
    this.#socket = socket;
    this.#daemon = daemon;
    this.#options = options;
  }

  /** A text message, or null for one that is none. */
  take(text: string | null): void {
    const input = parseInput(text);
    if (input === null) {
      const why =
        'Cannot understand a message: it is no {"kind":"input",...}; see the API document';
      const problem = problemOf(new ApiError("unsupported", why));
      say(this.#socket, { kind: "problem", seq: null, problem });
      this.#socket.close(closedByPolicy);
      return;
    }
    if (this.#failed?.source === input.source && input.seq > this.#failed.seq) return;
    this.#failed = null;
    this.#waiting.push(input);
    // Nobody types so fast; a program must wait for acknowledgements.
    if (this.#waiting.length > apiLimits.socketInputsMax) this.#socket.close(closedByPolicy);
    else if (!this.#isSending) void this.#send();
  }

  async #send(): Promise<void> {
    this.#isSending = true;
    const { spec, signal } = this.#options;
    for (let input = this.#waiting.shift(); input !== undefined; input = this.#waiting.shift()) {
      if (signal.aborted) break;
      const { source, seq } = input;
      try {
        const message = { source, seq, data: Buffer.from(input.data, "base64") };
        await this.#daemon.router.input(spec, message, { signal });
        say(this.#socket, { kind: "ack", seq });
      } catch (error) {
        // The next number must not overtake this one: the client sends both again.
        this.#waiting = [];
        this.#failed = input;
        if (signal.aborted) break;
        say(this.#socket, { kind: "problem", seq, problem: problemOf(error) });
        this.#daemon.log.debug({ vm: spec.name, why: oneLine(error) }, "input was not taken");
      }
    }
    this.#isSending = false;
  }
}

function parseInput(text: string | null): SocketInput | null {
  try {
    const value: unknown = JSON.parse(text ?? "");
    return Value.Check(SocketInputSchema, value) ? value : null;
  } catch {
    return null;
  }
}
