/**
 * One build of a VM's copy on this node: a monitor process from its start to its end. Follows the
 * committed log, goes live when told, and then holds back what the guest says until it is
 * committed. A copy is never rewound: when it ran ahead of the log it is killed, and its owner
 * makes a new one. Knows nothing of elections.
 */
import type { ConsoleHub } from "./console_hub.ts";
import type { FrameHub } from "./frame_hub.ts";
import { FramesInFlight } from "./frames_in_flight.ts";
import type { InputLedger } from "./input_ledger.ts";
import { OutputGate } from "./output_gate.ts";
import type { EndReason, VmmMessage, VmmMessageOf, VmmStart } from "./vmm_messages.ts";
import type { Vmm, VmmFactory } from "./vmm_process.ts";

/** A monitor that says nothing for this long while it has work to do is taken for hung. */
export const silentMsMax = 60_000;

export type CopyPhase = "starting" | "following" | "going_live" | "live" | "ended" | "dead";

export interface CopyEnd {
  readonly reason: EndReason;
  readonly report: string | null;
}

export interface CopyEvents {
  /** A newly recorded chunk, to be proposed; in order, only while live. */
  onRecorded(chunk: Buffer): void;
  onPhase(phase: CopyPhase): void;
  /** The copy is of no further use. Called once; not after `kill`. */
  onDead(why: string): void;
}

export interface CopyOptions {
  readonly factory: VmmFactory;
  readonly hub: ConsoleHub;
  readonly frames: FrameHub;
  readonly ledger: InputLedger;
  readonly events: CopyEvents;
}

type Held =
  | { readonly kind: "output"; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: "frame"; readonly number: number; readonly bytes: Buffer }
  | { readonly kind: "ended"; readonly end: CopyEnd };

export interface CopyProgress {
  readonly steps: number | bigint;
  readonly guestNs: number | bigint;
  readonly chunkCount: number;
  readonly idle: boolean;
  /** How long recording and commit held back what the guest said; null before it said anything. */
  readonly outputDelayMs: { readonly p50: number; readonly p99: number } | null;
}

export class VmCopy {
  readonly #hub: ConsoleHub;
  readonly #frames: FrameHub;
  readonly #framesInFlight = new FramesInFlight();
  readonly #ledger: InputLedger;
  readonly #events: CopyEvents;
  readonly #vmm: Vmm;
  readonly #gate: OutputGate<Held>;
  readonly #stop = new AbortController();
  readonly #built: Promise<void>;
  #phase: CopyPhase = "starting";
  #fedCount = 0;
  #engine: string | null = null;
  #end: CopyEnd | null = null;
  #progress: CopyProgress = {
    steps: 0,
    guestNs: 0,
    chunkCount: 0,
    idle: false,
    outputDelayMs: null,
  };
  #watchdog: NodeJS.Timeout | null = null;

  constructor(start: Promise<VmmStart>, options: CopyOptions) {
    this.#hub = options.hub;
    this.#frames = options.frames;
    this.#ledger = options.ledger;
    this.#events = options.events;
    this.#gate = new OutputGate((held) => this.#pass(held));
    this.#vmm = options.factory({
      onMessage: (message) => this.#message(message),
      onChunk: (chunk) => this.#recorded(chunk),
      onOutput: (output) => this.#output({ kind: "output", ...output }),
      onFrame: (frame) => this.#output({ kind: "frame", ...frame }),
      onExit: (why) => {
        if (why !== null) this.#die(why);
      },
    });
    this.#built = this.#build(start);
  }

  get phase(): CopyPhase {
    return this.#phase;
  }

  get engine(): string | null {
    return this.#engine;
  }

  get pid(): number | undefined {
    return this.#vmm.pid;
  }

  get end(): CopyEnd | null {
    return this.#end;
  }

  get progress(): CopyProgress {
    return this.#progress;
  }

  /** Resolves when the machine is built, or will never be. */
  get built(): Promise<void> {
    return this.#built;
  }

  /** Takes the next committed chunk of the log. Resolves when it wants more. */
  async committed(chunk: Uint8Array): Promise<void> {
    if (this.#phase === "following") {
      this.#fedCount += 1;
      this.#watch();
      await this.#vmm.sendChunk(chunk).catch((error: Error) => this.#die(error.message));
    } else if (this.#phase === "live") {
      this.#fedCount += 1;
      // Those outside first; the monitor only counts.
      this.#gate.committed(this.#fedCount);
      this.#vmm.send({ kind: "committed", chunk: BigInt(this.#fedCount - 1) });
      this.#ledger.committed(this.#fedCount);
    }
  }

  /** All committed chunks were given: finish them and record from there on. */
  goLive(): void {
    if (this.#phase !== "following") return;
    this.#gate.reset(this.#fedCount);
    this.#setPhase("going_live");
    this.#watch();
    this.#vmm.send({ kind: "go_live" });
  }

  input(message: { source: number; seq: number; data: Uint8Array }): void {
    const { source, seq, data } = message;
    this.#vmm.send({ kind: "input", source: BigInt(source), seq: BigInt(seq), data });
  }

  /** An Ethernet frame for the guest; resolves to whether it took it. */
  async sendFrame(frame: { source: number; seq: number; data: Uint8Array }): Promise<boolean> {
    const { source, seq, data } = frame;
    const result = this.#framesInFlight.add(source, seq);
    if (result === null) return false;
    this.#vmm.send({ kind: "frame", source: BigInt(source), seq: BigInt(seq), data });
    return await result;
  }

  pressPowerButton(): void {
    this.#vmm.send({ kind: "control", action: "power_button" });
  }

  stopGuest(): void {
    this.#vmm.send({ kind: "control", action: "stop" });
  }

  pauseReading(): void {
    this.#vmm.pauseReading();
  }

  resumeReading(): void {
    this.#vmm.resumeReading();
  }

  /** Ends the process; nothing is reported afterwards. Resolves when it is reaped. */
  async kill(): Promise<void> {
    if (this.#phase !== "ended") this.#setPhase("dead");
    this.#stop.abort();
    this.#unwatch();
    this.#framesInFlight.reset();
    await this.#vmm.kill();
  }

  async #build(start: Promise<VmmStart>): Promise<void> {
    try {
      const ready = await this.#vmm.start(await start, this.#stop.signal);
      this.#engine = ready.engine;
      if (this.#phase === "starting") this.#setPhase("following");
    } catch (error) {
      this.#die((error as Error).message);
    }
  }

  #message(message: VmmMessage): void {
    if (this.#phase === "dead" || this.#phase === "ended") return;
    this.#unwatch();
    switch (message.kind) {
      case "live":
        this.#wentLive(message);
        return;
      case "progress":
        this.#progress = {
          steps: message.steps,
          guestNs: message.guest_ns,
          chunkCount: message.chunk,
          idle: message.idle ?? false,
          outputDelayMs: inMilliseconds(message.output_delay_us),
        };
        if (message.chunk < this.#fedCount || this.#phase === "going_live") this.#watch();
        return;
      case "input_applied": {
        // It comes behind the chunk that the input is in.
        const chunkCount = this.#phase === "live" ? this.#gate.sentCount : 0;
        this.#ledger.applied({ ...message, chunkCount }, this.#gate.committedCount);
        return;
      }
      case "frame_applied":
        this.#framesInFlight.applied(message);
        return;
      case "ended": {
        const end = { reason: message.reason, report: message.report ?? null };
        if (this.#phase === "live") this.#gate.hold({ kind: "ended", end });
        else this.#pass({ kind: "ended", end });
        return;
      }
      case "diverged":
        this.#die(`it diverged from the log at chunk ${message.chunk}, step ${message.steps}`);
        return;
      default:
    }
  }

  #wentLive(message: VmmMessageOf<"live">): void {
    if (this.#phase !== "going_live") {
      this.#die("the monitor went live without being told");
    } else if (message.chunk !== this.#fedCount) {
      this.#die(`the monitor went live at chunk ${message.chunk}, not ${this.#fedCount}`);
    } else {
      this.#setPhase("live");
    }
  }

  #recorded(chunk: Buffer): void {
    if (this.#phase === "dead" || this.#phase === "ended") return;
    if (this.#phase !== "live") {
      this.#die("the monitor recorded while it was not live");
      return;
    }
    this.#gate.chunkSent();
    this.#events.onRecorded(chunk);
  }

  /** What a copy says while it replays is committed already; live, it waits in the gate. */
  #output(output: Held): void {
    this.#unwatch();
    if (this.#phase === "live") this.#gate.hold(output);
    else if (this.#phase !== "dead") this.#pass(output);
  }

  #pass(held: Held): void {
    if (held.kind === "ended") {
      this.#end = held.end;
      this.#hub.close();
      this.#frames.close();
      this.#setPhase("ended");
      void this.kill();
      return;
    }
    if (held.kind === "frame") {
      this.#frames.append(held.number, held.bytes);
      return;
    }
    try {
      this.#hub.append(held.offset, held.bytes);
    } catch (error) {
      this.#die((error as Error).message);
    }
  }

  #die(why: string): void {
    if (this.#phase === "dead" || this.#phase === "ended") return;
    this.#setPhase("dead");
    void this.kill();
    this.#events.onDead(why);
  }

  #setPhase(phase: CopyPhase): void {
    this.#phase = phase;
    this.#events.onPhase(phase);
  }

  #watch(): void {
    if (this.#watchdog !== null) return;
    const hung = (): void => this.#die(`the monitor said nothing for ${silentMsMax / 1000} s`);
    this.#watchdog = setTimeout(hung, silentMsMax).unref();
  }

  #unwatch(): void {
    if (this.#watchdog !== null) clearTimeout(this.#watchdog);
    this.#watchdog = null;
  }
}

function inMilliseconds(
  delay: { readonly p50: number; readonly p99: number } | undefined,
): CopyProgress["outputDelayMs"] {
  return delay === undefined ? null : { p50: delay.p50 / 1000, p99: delay.p99 / 1000 };
}
