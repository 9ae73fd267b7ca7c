/**
 * A root directory that holds the binary, the libraries it links to, and nothing else: no /proc, no
 * /dev, no shell. Programs run in it as root by chroot, otherwise in a user namespace.
 */
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { paths } from "../../src/build/paths.ts";

export interface RunInRoot {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Paths of the shared libraries that a program asks for, its loader included. */
export function linkedLibraries(program: string): string[] {
  const listing = spawnSync("ldd", [program], { encoding: "utf8" });
  if (listing.status !== 0) throw new Error(`Cannot list libraries of "${program}"`);
  return [...listing.stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
}

export class EmptyRoot {
  readonly directory: string;

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), "node-mesh-root-"));
    copyFileSync(paths.binary, join(this.directory, "node-mesh"));
    for (const library of linkedLibraries(paths.binary)) {
      const place = join(this.directory, library);
      mkdirSync(dirname(place), { recursive: true });
      copyFileSync(realpathSync(library), place);
    }
  }

  /** Why nothing can be run in here; null when it can. */
  static refusal(): string | null {
    if (process.getuid?.() === 0) return null;
    const probe = spawnSync("unshare", ["-r", "true"]);
    return probe.status === 0 ? null : "neither root nor user namespaces are to be had";
  }

  async run(args: readonly string[], options: { killAfterMs?: number } = {}): Promise<RunInRoot> {
    const enter = process.getuid?.() === 0 ? ["chroot", this.directory] : this.#namespace();
    const command = [...enter, "/node-mesh", ...args];
    const child = spawn(command[0] ?? "", command.slice(1), {
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env["PATH"] ?? "" },
    });
    const killer = setTimeout(() => child.kill("SIGKILL"), options.killAfterMs ?? 120_000);
    const stdout: Buffer[] = [];
    let stderr = "";
    child.stdout.on("data", (bytes: Buffer) => stdout.push(bytes));
    child.stderr.on("data", (bytes: Buffer) => {
      stderr += bytes.toString();
    });
    const { promise, resolve, reject } = Promise.withResolvers<number | null>();
    child.on("error", reject);
    child.on("close", resolve);
    const status = await promise.finally(() => clearTimeout(killer));
    return { status, stdout: Buffer.concat(stdout), stderr };
  }

  #namespace(): string[] {
    return ["unshare", "-r", `--root=${this.directory}`];
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
