/**
 * The native half: configures and builds native/ with CMake and Ninja, as the static release that
 * goes into the binary and as a sanitized build that only runs tests.
 */
import { copyFileSync, existsSync, mkdirSync, renameSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { CommandError, capture, mustRunVisibly, progress, script } from "./_command.ts";
import { paths } from "./paths.ts";
import { setUp } from "./setup.ts";

/** The longest that one native test program may take, sanitizers included. */
const nativeTestSecondsMax = 900;

export type NativeVariant = "release" | "sanitized";

const directories: Record<NativeVariant, string> = {
  release: paths.nativeRelease,
  sanitized: paths.nativeSanitized,
};

function configure(variant: NativeVariant): void {
  const directory = directories[variant];
  if (existsSync(join(directory, "build.ninja"))) return;
  progress("native", `configuring the ${variant} build`);
  capture([
    "cmake",
    "-G",
    "Ninja",
    "-S",
    paths.native,
    "-B",
    directory,
    "-DCMAKE_BUILD_TYPE=Release",
    `-DNM_SANITIZE=${variant === "sanitized" ? "ON" : "OFF"}`,
    `-DZYDIS_SOURCE_DIR=${paths.zydis}`,
  ]);
}

function ninja(directory: string, targets: readonly string[]): string[] {
  return ["ninja", "-C", directory, `-j${availableParallelism()}`, ...targets];
}

/** Nothing to do is the usual case and says nothing; otherwise the compiler's progress is shown. */
async function build(variant: NativeVariant, targets: readonly string[]): Promise<void> {
  configure(variant);
  const directory = directories[variant];
  try {
    const plan = capture([...ninja(directory, targets), "-n", "--quiet"]);
    if (plan.includes("no work to do")) return;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
  }
  progress("native", `building (${variant})`);
  await mustRunVisibly(ninja(directory, targets));
}

/** Builds everything with its tests; the release also puts the monitor into dist/. */
export async function buildNative(variant: NativeVariant): Promise<void> {
  await build(variant, []);
  if (variant === "release") installMonitor();
}

/** Builds the monitor alone, without the native tests. */
export async function buildMonitor(): Promise<void> {
  await build("release", ["vmm"]);
  installMonitor();
}

/** Copied beside and renamed, so that a monitor that is running keeps its own file. */
function installMonitor(): void {
  mkdirSync(paths.dist, { recursive: true });
  const fresh = `${paths.vmm}.new`;
  copyFileSync(join(paths.nativeRelease, "verbs/vmm"), fresh);
  renameSync(fresh, paths.vmm);
}

/** The command that runs the native tests of a variant. */
export function nativeTestCommand(variant: NativeVariant): readonly string[] {
  return [
    "ctest",
    "--test-dir",
    directories[variant],
    "--output-on-failure",
    "--no-tests=error",
    "--timeout",
    String(nativeTestSecondsMax),
    `-j${availableParallelism()}`,
  ];
}

if (import.meta.main) {
  await script(async () => {
    await setUp();
    await buildNative(process.argv.includes("--sanitized") ? "sanitized" : "release");
  });
}
