/** The files of this checkout as git sees them, with their text read once. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

export const root = dirname(dirname(import.meta.dirname));

/** Paths known to git or new, those that are ignored left out, sorted. */
export function trackedFiles(pattern: RegExp): string[] {
  const listing = spawnSync("git", ["ls-files", "-co", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
  });
  if (listing.status !== 0) throw new Error(`Cannot list files: git says: ${listing.stderr}`);
  const files = listing.stdout.split("\n").filter((file) => pattern.test(file));
  return files.filter((file) => isFile(join(root, file))).sort();
}

function isFile(path: string): boolean {
  return existsSync(path) && statSync(path).isFile();
}

const texts = new Map<string, string>();

export function textOf(file: string): string {
  const known = texts.get(file) ?? readFileSync(join(root, file), "utf8");
  texts.set(file, known);
  return known;
}

export function linesOf(file: string): string[] {
  return textOf(file).replace(/\n$/, "").split("\n");
}
