/**
 * A guest in `vmm serve`, driven as a node drives it: everything that it records is committed at
 * once. What it was and what it said is kept, so that a second monitor can be given the same log.
 */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { assetPath } from "../../src/assets.ts";
import { machineConfig, type VmSpec } from "../../src/vm/vm_spec.ts";
import type { VmmMessage } from "../../src/vm/vmm_messages.ts";
import { VmmProcess } from "../../src/vm/vmm_process.ts";

export interface ServedGuestOptions {
  readonly kernel: string;
  readonly initrd: string;
  readonly cmdline: string;
  readonly memoryBytes?: number;
  readonly net?: VmSpec["net"];
  readonly rng?: boolean;
}

/** What a test waits for comes within this, on a busy machine too. */
const waitMsMax = 120_000;

export class ServedGuest {
  console = "";
  readonly frames: Buffer[] = [];
  readonly chunks: Buffer[] = [];
  /** Called for each frame of the guest, in order. */
  onFrame: ((frame: Buffer) => void) | null = null;
  ended: string | null = null;
  failure: string | null = null;
  readonly #config: Readonly<Record<string, unknown>>;
  readonly #options: ServedGuestOptions;
  readonly #vmm: VmmProcess;
  readonly #waiting = new Set<() => void>();
  #live = false;
  #frameSeq = 0n;
  #inputSeq = 0n;

  private constructor(
    options: ServedGuestOptions,
    config: Readonly<Record<string, unknown>> | null,
  ) {
    this.#options = options;
    this.#config = config ?? newConfig(options);
    this.#vmm = new VmmProcess(assetPath("vmm"), {
      onMessage: (message) => this.#message(message),
      onChunk: (chunk) => {
        this.chunks.push(Buffer.from(chunk));
        this.#vmm.send({ kind: "committed", chunk: BigInt(this.chunks.length - 1) });
      },
      onOutput: ({ bytes }) => {
        this.console += bytes.toString("latin1");
        this.#changed();
      },
      onFrame: ({ number, bytes }) => {
        if (number !== this.frames.length) this.failure ??= `frame ${number} is out of order`;
        this.frames.push(Buffer.from(bytes));
        this.onFrame?.(bytes);
        this.#changed();
      },
      onExit: (why) => {
        if (this.ended === null) this.failure ??= why ?? "the monitor ended";
        this.#changed();
      },
    });
  }

  /** A new guest, recording. */
  static async boot(options: ServedGuestOptions): Promise<ServedGuest> {
    const guest = new ServedGuest(options, null);
    await guest.#start();
    guest.#vmm.send({ kind: "go_live" });
    await guest.until(() => guest.#live, "goes live");
    return guest;
  }

  /** The same guest again, from its log. */
  async replayed(): Promise<ServedGuest> {
    const copy = new ServedGuest(this.#options, this.#config);
    await copy.#start();
    for (const chunk of this.chunks) await copy.#vmm.sendChunk(chunk);
    await copy.until(() => copy.ended !== null, "replays to its end");
    return copy;
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    const deadline = Date.now() + waitMsMax;
    while (!condition()) {
      if (this.failure !== null) throw new Error(`the guest failed: ${this.failure}`);
      if (Date.now() > deadline) {
        throw new Error(`the guest does not do this: ${what}\n${this.console.slice(-2000)}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, 1000);
        const waiting = this.#waiting;
        function done(): void {
          clearTimeout(timer);
          waiting.delete(done);
          resolve();
        }
        waiting.add(done);
      });
    }
  }

  async says(pattern: RegExp): Promise<void> {
    await this.until(() => pattern.test(this.console), `says ${pattern}`);
  }

  type(text: string): void {
    this.#inputSeq += 1n;
    const data = Buffer.from(text);
    this.#vmm.send({ kind: "input", source: 1n, seq: this.#inputSeq, data });
  }

  sendFrame(data: Uint8Array): void {
    this.#frameSeq += 1n;
    this.#vmm.send({ kind: "frame", source: 2n, seq: this.#frameSeq, data });
  }

  /** The frame that was sent last, with the same number, once more. */
  sendFrameAgain(data: Uint8Array): void {
    this.#vmm.send({ kind: "frame", source: 2n, seq: this.#frameSeq, data });
  }

  pressPowerButton(): void {
    this.#vmm.send({ kind: "control", action: "power_button" });
  }

  async kill(): Promise<void> {
    await this.#vmm.kill();
  }

  async #start(): Promise<void> {
    const { kernel, initrd } = this.#options;
    const start = { config: this.#config, kernel, initrd, engine: "auto" as const };
    await this.#vmm.start(start, AbortSignal.timeout(waitMsMax));
  }

  #message(message: VmmMessage): void {
    if (message.kind === "live") this.#live = true;
    if (message.kind === "ended") this.ended = message.reason;
    if (message.kind === "diverged") this.failure = `it diverged at step ${message.steps}`;
    this.#changed();
  }

  #changed(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}

function newConfig(options: ServedGuestOptions): Readonly<Record<string, unknown>> {
  const hash = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");
  const spec = {
    memoryBytes: options.memoryBytes ?? 128 * 2 ** 20,
    cmdline: options.cmdline,
    startRealtimeMs: Date.now(),
    rngSeed: randomBytes(32).toString("hex"),
    kernelSha256: hash(options.kernel),
    initrdSha256: hash(options.initrd),
    rng: options.rng ?? false,
    ...(options.net === undefined ? {} : { net: options.net }),
  };
  // The members of a VM are no part of its machine.
  return machineConfig(spec as VmSpec);
}
