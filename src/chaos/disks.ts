/**
 * A disk of its own for each node of a scenario: an ext4 file system in a file, small enough to be
 * filled, and able to break as a disk does (ext4's own abort: every later write fails). Needs root,
 * loop devices and e2fsprogs.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, probe, quietly } from "./command.ts";

const diskBytes = 256 * 1024 * 1024;
const fillerName = ".filler";

export class Disks {
  readonly #images = new Map<string, string>();

  /** Why this machine cannot have them; null when it can. */
  static missing(): string | null {
    const directory = mkdtempSync(join(tmpdir(), "node-mesh-probe-"));
    return probe("disks in files", () => {
      const disks = new Disks();
      try {
        disks.add(join(directory, "probe"));
      } finally {
        disks.close();
        rmSync(directory, { recursive: true, force: true });
      }
    });
  }

  /** Makes `directory` a disk of its own. */
  add(directory: string): void {
    const image = `${directory}.disk`;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    writeFileSync(image, "", { mode: 0o600 });
    truncateSync(image, diskBytes);
    command(["mkfs.ext4", "-q", "-F", "-m", "0", image]);
    this.#images.set(directory, image);
    this.#mount(directory);
  }

  /** Takes all the room that is left. */
  fill(directory: string): void {
    const { bavail, bsize } = statfsSync(directory);
    const filler = join(directory, fillerName);
    quietly(["fallocate", "-l", String(Math.max(1, bavail) * bsize), filler]);
    // What the last blocks still take.
    quietly(["dd", "if=/dev/zero", `of=${filler}`, "bs=4096", "oflag=append", "conv=notrunc"]);
  }

  free(directory: string): void {
    rmSync(join(directory, fillerName), { force: true });
  }

  /** Every write from now on fails. */
  break(directory: string): void {
    command(["mount", "-o", "remount,abort", directory]);
  }

  /** Throws while somebody uses it. */
  takeOut(directory: string): void {
    command(["umount", directory]);
  }

  /** Puts a broken disk that was taken out in order, and in again. */
  mend(directory: string): void {
    const image = this.#images.get(directory);
    if (image === undefined) throw new RangeError(`${directory} is no disk of its own`);
    // Status 1 says that it found something and mended it.
    quietly(["e2fsck", "-p", image]);
    this.#mount(directory);
  }

  close(): void {
    for (const [directory, image] of this.#images) {
      quietly(["umount", "-l", directory]);
      if (existsSync(image)) rmSync(image, { force: true });
    }
    this.#images.clear();
  }

  #mount(directory: string): void {
    command(["mount", "-o", "loop", this.#images.get(directory) ?? "", directory]);
    command(["chmod", "700", directory]);
  }
}
