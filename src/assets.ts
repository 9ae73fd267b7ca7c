/**
 * What travels inside the binary: the monitor, the default guest, the storage worker, licences.
 * The single executable reads them from itself, a checkout from dist/. Programs and files that
 * others must open by path are written once to a directory that only this user can reach, under a
 * name with their hash, and checked each time before use. Nothing here runs what it hands out.
 */
import { createHash, randomBytes } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { getRawAsset, isSea } from "node:sea";
import { Worker, type WorkerOptions } from "node:worker_threads";
import { homeDirectory } from "./home_directory.ts";

export const assetNames = [
  "vmm",
  "guest/vmlinuz",
  "guest/initrd",
  "guest/cmdline",
  "guest/LICENSES",
  "storage_worker.cjs",
  "chaos/scenarios.json",
  "dashboard/index.html",
  "dashboard/dashboard.js",
  "dashboard/dashboard.css",
  "dashboard/favicon.svg",
  "LICENSES",
] as const;

export type AssetName = (typeof assetNames)[number];

/** Environment variables that take the place of what is inside, for development and tests. */
export const replacementVariables = {
  /** Path of a monitor. */
  monitor: "NODE_MESH_VMM",
  /** Directory with vmlinuz, initrd and cmdline. */
  guest: "NODE_MESH_GUEST",
} as const;

/** Hexadecimal digits of the SHA-256 in a file's name. */
const hashDigits = 20;
/** A file of another version is removed when nobody wrote it for so long. */
const staleMs = 24 * 3600 * 1000;

export interface AssetOptions {
  /** A directory of the caller's own, tried before the user's usual places. */
  readonly directory?: string;
}

const executables: ReadonlySet<AssetName> = new Set(["vmm"]);
const pathsByKey = new Map<string, string>();

/** Is this process the single executable? */
export function isSingleExecutable(): boolean {
  return isSea();
}

/** The bytes of an asset; throws when this checkout was not built. */
export function assetBytes(name: AssetName): Uint8Array {
  const replaced = replacement(name);
  if (replaced !== null) return readFileSync(replaced);
  if (isSea()) return new Uint8Array(getRawAsset(name));
  return readFileSync(builtFile(name));
}

export function assetText(name: AssetName): string {
  return Buffer.from(assetBytes(name)).toString("utf8");
}

/** The kernel command line of the default guest. */
export function defaultCommandLine(): string {
  return assetText("guest/cmdline").trim();
}

/** A file with the asset's bytes, executable where the asset is a program. */
export function assetPath(name: AssetName, options: AssetOptions = {}): string {
  const replaced = replacement(name);
  if (replaced !== null) return replaced;
  if (!isSea()) return builtFile(name);
  const key = `${name}\0${options.directory ?? ""}`;
  const known = pathsByKey.get(key);
  if (known !== undefined && existsSync(known)) return known;
  const path = extract(name, options);
  pathsByKey.set(key, path);
  return path;
}

/** Starts the storage worker: from the binary, from beside the bundle, or from its source. */
export function storageWorker(options: WorkerOptions): Worker {
  if (isSea()) return new Worker(assetText("storage_worker.cjs"), { ...options, eval: true });
  const bundled = join(import.meta.dirname, "storage_worker.cjs");
  if (existsSync(bundled)) return new Worker(bundled, options);
  return new Worker(join(import.meta.dirname, "../mesh/storage/worker.ts"), options);
}

function replacement(name: AssetName): string | null {
  const monitor = process.env[replacementVariables.monitor] ?? "";
  if (name === "vmm" && monitor !== "") return monitor;
  const guest = process.env[replacementVariables.guest] ?? "";
  return name.startsWith("guest/") && guest !== "" ? join(guest, basename(name)) : null;
}

/** dist/ of the checkout, seen from src/ as well as from the bundle inside dist/bundle/. */
function distDirectory(): string {
  const here = import.meta.dirname;
  return basename(here) === "bundle" ? join(here, "..") : join(here, "../dist");
}

function builtFile(name: AssetName): string {
  const dist = distDirectory();
  const file = join(dist, name === "storage_worker.cjs" ? `bundle/${name}` : name);
  if (!existsSync(file)) {
    throw new Error(`Cannot use "${name}": it is not built in this checkout; run: npm run build`);
  }
  return file;
}

function extract(name: AssetName, options: AssetOptions): string {
  const bytes = assetBytes(name);
  const hash = createHash("sha256").update(bytes).digest("hex");
  const fileName = `${basename(name)}-${hash.slice(0, hashDigits)}`;
  const refusals: string[] = [];
  for (const directory of candidateDirectories(options)) {
    try {
      makePrivate(directory);
      const file = join(directory, fileName);
      if (!holds(file, hash)) write(file, bytes);
      if (executables.has(name)) accessSync(file, constants.X_OK);
      removeStale(directory, { prefix: `${basename(name)}-`, keep: fileName });
      return file;
    } catch (error) {
      refusals.push(`${directory}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new Error(
    `Cannot unpack "${name}": no directory can hold a private` +
      `${executables.has(name) ? ", executable" : ""} file (${refusals.join("; ")}); ` +
      "set XDG_CACHE_HOME to one that can",
  );
}

function candidateDirectories(options: AssetOptions): string[] {
  const user = process.getuid?.() ?? 0;
  const cache = process.env["XDG_CACHE_HOME"] ?? "";
  const home = homeDirectory();
  return [
    options.directory ?? "",
    cache === "" ? "" : join(cache, "node-mesh"),
    home === "" ? "" : join(home, ".cache/node-mesh"),
    join("/var/tmp", `node-mesh-${user}`),
    join(tmpdir(), `node-mesh-${user}`),
    join("/dev/shm", `node-mesh-${user}`),
  ].filter((directory) => directory !== "");
}

/** Others could swap a program in a directory of theirs: it must be ours, real, and closed. */
function makePrivate(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const status = lstatSync(directory);
  const ours = status.isDirectory() && status.uid === process.getuid?.();
  if (!ours || (status.mode & 0o022) !== 0) {
    throw new Error("it belongs to another user or others may write to it");
  }
}

function holds(file: string, hash: string): boolean {
  if (!existsSync(file)) return false;
  return createHash("sha256").update(readFileSync(file)).digest("hex") === hash;
}

/** Written under another name and renamed: no other process ever sees half a file. */
function write(file: string, bytes: Uint8Array): void {
  const fresh = `${file}.${randomBytes(6).toString("hex")}`;
  try {
    writeFileSync(fresh, bytes, { mode: 0o500, flag: "wx" });
    renameSync(fresh, file);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
}

function removeStale(directory: string, which: { prefix: string; keep: string }): void {
  for (const name of readdirSync(directory)) {
    if (!name.startsWith(which.prefix) || name === which.keep) continue;
    const file = join(directory, name);
    if (Date.now() - statSync(file).mtimeMs > staleMs) rmSync(file, { force: true });
  }
}
