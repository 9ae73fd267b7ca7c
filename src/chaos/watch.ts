/** An outside reader of one VM: its numbered lines, judged, and all other lines handed on. */
import type { NodeProcess } from "../demo/cluster.ts";
import { Follower } from "../demo/follower.ts";
import { LineChecker, type LineVerdict, lineMs } from "../demo/line_checker.ts";

/** A line of a console without an end is not kept beyond this. */
const lineBytesMax = 64 * 1024;

export interface WatchOptions {
  readonly vm: string;
  /** Through whom to read: not the one given, if it can be helped. */
  readonly choose: (failed: NodeProcess | null) => NodeProcess;
}

export class Watch {
  readonly vm: string;
  readonly #checker = new LineChecker();
  readonly #follower: Follower;
  readonly #listeners = new Set<(line: string) => void>();
  #through: NodeProcess | null = null;
  #rest = "";

  constructor(options: WatchOptions) {
    this.vm = options.vm;
    this.#follower = new Follower({
      vm: options.vm,
      choose: (failed) => {
        this.#through = options.choose(failed);
        return this.#through;
      },
      onBytes: (bytes) => {
        this.#checker.push(bytes);
        this.#split(bytes.toString("latin1"));
      },
    });
  }

  /** The node through which it reads now. */
  get through(): NodeProcess | null {
    return this.#through;
  }

  get gapBytes(): number {
    return this.#follower.gapBytes;
  }

  get lastNumber(): number {
    return this.#checker.last?.number ?? 0;
  }

  /** Every line from now on, without its end. */
  onLine(listener: (line: string) => void): void {
    this.#listeners.add(listener);
  }

  move(): void {
    this.#follower.move();
  }

  async moreLines(
    count: number,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<void> {
    await this.#checker.more(count, options);
  }

  verdict(): LineVerdict {
    return this.#checker.verdict();
  }

  /** The longest time without a line that was due. */
  longestPauseMs(): number {
    return Math.max(0, this.#checker.longestGapMs(0) - lineMs);
  }

  async close(): Promise<void> {
    await this.#follower.stop();
  }

  #split(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = (lines.pop() ?? "").slice(-lineBytesMax);
    for (const line of lines) {
      for (const listener of this.#listeners) listener(line.replace(/\r$/, ""));
    }
  }
}
