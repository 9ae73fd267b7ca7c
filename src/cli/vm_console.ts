/**
 * `node-mesh vm console`: a VM's console, both ways. Each piece typed has a number; it is sent
 * until it is acknowledged as committed, and applied once.
 */
import { randomInt } from "node:crypto";
import type { Command } from "commander";
import { type ApiClient, NodeGoneError } from "../api/client.ts";
import { inputBytesMax } from "../vm/vm_entries.ts";
import { followConsole } from "./console_follow.ts";
import { action, type CommonOptions, clientOf, fail, interruption, withData } from "./context.ts";

const leaveKey = 0x1d;
const retryMs = 200;
const retryMsMax = 60_000;
/** Typed or piped, not yet sent: more than this pauses standard input. */
const waitingBytesMax = 256 * 1024;

export function addVmConsole(vm: Command): void {
  withData(vm.command("console"))
    .argument("<name>", "name or id of the VM")
    .summary("use a VM's console")
    .description(
      "Shows the console of a VM and types into it. Ctrl-] leaves. When standard input is no " +
        "terminal, its bytes are typed, and the console is shown until Ctrl-C or the VM's end.",
    )
    .addHelpText("after", "\nExample:\n  node-mesh vm console first")
    .action(action(useConsole));
}

async function useConsole(name: string, options: CommonOptions): Promise<void> {
  const client = clientOf(options);
  await client.vm(name);
  const interrupted = interruption();
  const left = new AbortController();
  const signal = AbortSignal.any([interrupted, left.signal]);
  const terminal = process.stdin.isTTY === true;
  const typist = new Typist(client, { name, signal });
  if (terminal) {
    process.stdin.setRawMode(true);
    process.stderr.write("[Ctrl-] leaves]\r\n");
  }
  process.stdin.on("data", (bytes: Buffer) => {
    const leave = terminal ? bytes.indexOf(leaveKey) : -1;
    typist.type(leave === -1 ? bytes : bytes.subarray(0, leave));
    if (leave !== -1) left.abort();
  });
  const note = (text: string): void => {
    process.stderr.write(`\r\n[${text}]\r\n`);
  };
  try {
    const how = await followConsole(client, name, {
      follow: true,
      signal,
      onBytes: (bytes) => process.stdout.write(bytes),
      onTrouble: note,
    });
    if (how === "ended") note(`VM ${name} has ended`);
  } finally {
    if (terminal) process.stdin.setRawMode(false);
    process.stdin.destroy();
    left.abort();
  }
  process.stderr.write(terminal ? "\r\n" : "");
}

/** Sends what is typed, in order, one piece at a time, again until it is acknowledged. */
class Typist {
  readonly #client: ApiClient;
  readonly #name: string;
  readonly #signal: AbortSignal;
  /** Distinguishes this console from all others that type into the VM. */
  readonly #source = randomInt(1, 2 ** 47);
  #seq = 0;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #sending = false;

  constructor(client: ApiClient, options: { readonly name: string; readonly signal: AbortSignal }) {
    this.#client = client;
    this.#name = options.name;
    this.#signal = options.signal;
  }

  type(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (this.#waitingBytes > waitingBytesMax) process.stdin.pause();
    if (!this.#sending) void this.#send();
  }

  async #send(): Promise<void> {
    this.#sending = true;
    while (this.#waiting.length > 0 && !this.#signal.aborted) {
      const all = Buffer.concat(this.#waiting);
      const piece = all.subarray(0, inputBytesMax);
      this.#waiting = piece.length < all.length ? [all.subarray(piece.length)] : [];
      this.#waitingBytes -= piece.length;
      this.#seq += 1;
      try {
        await this.#deliver(piece, this.#seq);
      } catch (error) {
        if (this.#signal.aborted) return;
        if (process.stdin.isTTY === true) process.stdin.setRawMode(false);
        fail(error);
      }
      if (this.#waitingBytes <= waitingBytesMax) process.stdin.resume();
    }
    this.#sending = false;
  }

  async #deliver(piece: Buffer, seq: number): Promise<void> {
    const since = performance.now();
    for (;;) {
      try {
        const body = { source: this.#source, seq, data: piece.toString("base64") };
        await this.#client.input(this.#name, body, { signal: this.#signal });
        return;
      } catch (error) {
        const again = error instanceof NodeGoneError && performance.now() - since < retryMsMax;
        if (!again || this.#signal.aborted) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }
}
