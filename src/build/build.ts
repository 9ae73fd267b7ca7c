/**
 * `npm run build`: set-up, monitor, default guest, bundle, single executable; each step skips what
 * is up to date.
 */
import { existsSync, globSync, statSync } from "node:fs";
import { join } from "node:path";
import { progress, script } from "./_command.ts";
import { buildBundle } from "./bundle.ts";
import { buildExecutable } from "./executable.ts";
import { buildGuest } from "./guest.ts";
import { buildMonitor } from "./native.ts";
import { paths } from "./paths.ts";
import { packScenarios } from "./scenarios.ts";
import { setUp } from "./setup.ts";

/** Files whose change makes a new bundle necessary. */
const bundleSources = [
  "src/**/*.ts",
  "src/dashboard/**",
  "mesh/**/*.ts",
  "package-lock.json",
  "sea-config.json",
];

function newestMs(patterns: readonly string[]): number {
  let newest = 0;
  for (const file of globSync(patterns, { cwd: paths.root })) {
    newest = Math.max(newest, statSync(join(paths.root, file)).mtimeMs);
  }
  return newest;
}

/** Is `file` there and newer than all that `patterns` name? */
function isUpToDate(file: string, patterns: readonly string[]): boolean {
  return existsSync(file) && statSync(file).mtimeMs >= newestMs(patterns);
}

/** Builds dist/ and answers when dist/node-mesh is ready. */
export async function buildAll(): Promise<void> {
  const began = performance.now();
  await setUp();
  await buildMonitor();
  buildGuest();
  if (!isUpToDate(join(paths.bundle, "main.mjs"), bundleSources)) await buildBundle();
  if (!isUpToDate(paths.scenarios, ["src/chaos/scenarios/*"])) packScenarios();
  const assets = ["dist/bundle/*", "dist/dashboard/*", "dist/guest/*", "dist/chaos/*", "dist/vmm"];
  if (!isUpToDate(paths.binary, assets)) buildExecutable();
  const seconds = (performance.now() - began) / 1000;
  progress("build", `dist/node-mesh is ready (${seconds.toFixed(1)} s)`);
}

if (import.meta.main) await script(buildAll);
