/**
 * Wall clocks that a scenario can turn, one for each node, while the node runs (libfaketime). The
 * steady clock, by which nodes measure, is not touched: nobody can turn that of a real machine.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

export class Clocks {
  readonly #directory: string;
  readonly #offsetsMs = new Map<string, number>();

  static missing(): string | null {
    return existsSync(library)
      ? null
      : "clocks cannot be turned here: libfaketime is missing; run: apt-get install libfaketime";
  }

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** What a node's environment needs so that its clock can be turned. */
  environment(name: string): Readonly<Record<string, string>> {
    this.#write(name);
    return {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: this.#file(name),
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      DONT_FAKE_MONOTONIC: "1",
    };
  }

  /** Forward, or back if negative. */
  turn(name: string, byMs: number): void {
    this.#offsetsMs.set(name, (this.#offsetsMs.get(name) ?? 0) + byMs);
    this.#write(name);
  }

  reset(): void {
    for (const name of this.#offsetsMs.keys()) {
      this.#offsetsMs.set(name, 0);
      this.#write(name);
    }
  }

  #file(name: string): string {
    return join(this.#directory, name);
  }

  #write(name: string): void {
    const seconds = (this.#offsetsMs.get(name) ?? 0) / 1000;
    writeFileSync(this.#file(name), `${seconds < 0 ? "" : "+"}${seconds}\n`);
  }
}
