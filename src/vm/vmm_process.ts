/**
 * One `vmm serve` process: started, spoken to in frames, and always reaped. Owns the process and
 * its socket; decides nothing about the VM. A process that dies, breaks the protocol or misses a
 * deadline ends in exactly one call of `onExit`, after which no other handler is called.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import type { Socket } from "node:net";
import {
  decodeNetwork,
  decodeOutput,
  encodeControl,
  encodeFrame,
  FrameDecoder,
} from "./frame_codec.ts";
import { parseVmmMessage, type VmmMessage, type VmmStart, wireVersion } from "./vmm_messages.ts";

/** From the start of the process to its first frame. */
const helloMsMax = 10_000;
/** From `start` to `ready`: reading images and laying out guest memory on a slow, busy disk. */
const readyMsMax = 60_000;
/** Of standard error, kept for the report when the process dies. */
const stderrBytesMax = 4096;

export interface VmmHandlers {
  onMessage(message: VmmMessage): void;
  onChunk(chunk: Buffer): void;
  onOutput(output: { readonly offset: number; readonly bytes: Buffer }): void;
  /** An Ethernet frame that the guest sent. */
  onFrame(frame: { readonly number: number; readonly bytes: Buffer }): void;
  /** `why` is null when the end was asked for. */
  onExit(why: string | null): void;
}

/** What the supervisor needs of a monitor; tests bring their own. */
export interface Vmm {
  readonly pid: number | undefined;
  /** Resolves when the machine is built; rejects with what the monitor said. */
  start(start: VmmStart, signal: AbortSignal): Promise<VmmMessage & { kind: "ready" }>;
  /** Resolves when the socket takes more: the back-pressure of a replaying copy. */
  sendChunk(chunk: Uint8Array): Promise<void>;
  send(message: Readonly<Record<string, unknown>>): void;
  pauseReading(): void;
  resumeReading(): void;
  kill(): Promise<void>;
}

export type VmmFactory = (handlers: VmmHandlers) => Vmm;

export class VmmProcess implements Vmm {
  readonly #child: ChildProcess;
  readonly #socket: Socket;
  readonly #handlers: VmmHandlers;
  readonly #decoder = new FrameDecoder();
  readonly #exited: Promise<void>;
  #stderr = "";
  #failure: string | null = null;
  #asked = false;
  #done = false;
  #expect = new Map<string, (message: VmmMessage) => void>();
  #fail: ((error: Error) => void) | null = null;

  constructor(binary: string, handlers: VmmHandlers) {
    this.#handlers = handlers;
    // It uses neither of the first two; without /dev there is nothing else to give it.
    const unused = existsSync("/dev/null") ? "ignore" : "pipe";
    this.#child = spawn(binary, ["serve"], {
      stdio: [unused, unused, "pipe", "pipe"],
      env: {},
    });
    this.#socket = this.#child.stdio[3] as Socket;
    this.#exited = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        this.#failure ??= `it could not be started: ${error.message}`;
        if (this.#child.pid === undefined) this.#ended(null, null, resolve);
      });
      this.#child.once("exit", (code, signal) => this.#ended(code, signal, resolve));
    });
    this.#child.stderr?.on("data", (piece: Buffer) => {
      this.#stderr = (this.#stderr + piece.toString("latin1")).slice(-stderrBytesMax);
    });
    this.#socket?.on("data", (piece: Buffer) => this.#read(piece));
    // The exit says what happened; the socket's own error adds nothing.
    this.#socket?.on("error", () => this.#child.kill("SIGKILL"));
    this.#socket?.once("close", () => this.#child.kill("SIGKILL"));
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async start(start: VmmStart, signal: AbortSignal): Promise<VmmMessage & { kind: "ready" }> {
    const hello = await this.#next("hello", { ms: helloMsMax, signal });
    if (hello.kind !== "hello" || hello.wire !== wireVersion) {
      throw new Error("the monitor speaks another version of the protocol");
    }
    this.send({ kind: "start", ...start });
    const ready = await this.#next("ready", { ms: readyMsMax, signal });
    return ready as VmmMessage & { kind: "ready" };
  }

  async sendChunk(chunk: Uint8Array): Promise<void> {
    if (this.#done || this.#socket.destroyed) throw new Error("the monitor is gone");
    if (this.#socket.write(encodeFrame("chunk", chunk))) return;
    const gone = new AbortController();
    try {
      await Promise.race([
        once(this.#socket, "drain", { signal: gone.signal }),
        this.#exited.then(() => Promise.reject(new Error("the monitor is gone"))),
      ]);
    } finally {
      gone.abort();
    }
  }

  send(message: Readonly<Record<string, unknown>>): void {
    if (!this.#done && !this.#socket.destroyed) this.#socket.write(encodeControl(message));
  }

  pauseReading(): void {
    this.#socket.pause();
  }

  resumeReading(): void {
    this.#socket.resume();
  }

  async kill(): Promise<void> {
    this.#asked = true;
    if (this.#done) return;
    // A monitor has nothing to save: what counts is in the log.
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  #next(kind: string, options: { ms: number; signal: AbortSignal }): Promise<VmmMessage> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        options.signal.removeEventListener("abort", aborted);
        this.#expect.delete(kind);
        this.#fail = null;
      };
      const failed = (error: Error): void => {
        settle();
        reject(error);
      };
      const aborted = (): void => failed(new Error("it was stopped while starting"));
      const timer = setTimeout(
        () => failed(new Error(`the monitor did not answer within ${options.ms} ms`)),
        options.ms,
      );
      this.#expect.set(kind, (message) => {
        settle();
        resolve(message);
      });
      this.#fail = failed;
      if (this.#done) failed(new Error(this.#failure ?? "the monitor ended"));
      else if (options.signal.aborted) aborted();
      else options.signal.addEventListener("abort", aborted, { once: true });
    });
  }

  #read(piece: Buffer): void {
    if (this.#done) return;
    try {
      for (const frame of this.#decoder.push(piece)) {
        if (this.#asked) return;
        if (frame.kind === "chunk") this.#handlers.onChunk(frame.payload);
        else if (frame.kind === "output") this.#handlers.onOutput(decodeOutput(frame.payload));
        else if (frame.kind === "network") this.#handlers.onFrame(decodeNetwork(frame.payload));
        else this.#message(parseVmmMessage(frame.payload));
      }
    } catch (error) {
      this.#failure ??= `the monitor broke the protocol: ${(error as Error).message}`;
      this.#child.kill("SIGKILL");
    }
  }

  #message(message: VmmMessage): void {
    if (message.kind === "error") {
      this.#failure ??= message.message;
      this.#fail?.(new Error(message.message));
    }
    const expected = this.#expect.get(message.kind);
    if (expected !== undefined) expected(message);
    else this.#handlers.onMessage(message);
  }

  #ended(code: number | null, signal: NodeJS.Signals | null, resolve: () => void): void {
    if (this.#done) return;
    this.#done = true;
    this.#socket?.destroy();
    const said = this.#stderr.trim().split("\n").at(-1) ?? "";
    const how = signal === null ? `it ended with status ${code}` : `it was killed by ${signal}`;
    const why = this.#failure ?? (said === "" ? how : `${how}: ${said}`);
    this.#failure = why;
    resolve();
    this.#fail?.(new Error(why));
    this.#handlers.onExit(this.#asked ? null : why);
  }
}
