/**
 * The Debian packages that building and testing need: finds out which are missing and installs them
 * when the user is root. Never removes or upgrades anything.
 */
import { capture, mustRunVisibly, progress, tryCapture } from "./_command.ts";

/** What each package is for. */
export const debianPackages = {
  "build-essential": "C++ compiler and linker",
  "ca-certificates": "package downloads",
  "clang-format": "formatter of the C++ code",
  cmake: "native build",
  cppcheck: "linter of the C++ code",
  "doctest-dev": "native unit tests",
  "libcli11-dev": "command lines of the monitor",
  "liblz4-dev": "kernel payloads",
  "libsodium-dev": "hashes",
  "libxxhash-dev": "hashes",
  "liblzma-dev": "kernel payloads",
  "libzstd-dev": "compressed logs, kernel payloads and disk images",
  "libzycore-dev": "headers of the instruction decoder",
  "libzydis-dev": "headers of the instruction decoder",
  "nettle-dev": "hashes",
  "ninja-build": "native build",
  "nlohmann-json3-dev": "JSON and CBOR",
  "zlib1g-dev": "kernel payloads and disk images",
} as const;

/** Whose code the monitor contains: it is linked statically. */
export const linkedPackages = [
  "libc6",
  "libcli11-dev",
  "liblz4-dev",
  "liblzma-dev",
  "libsodium-dev",
  "libstdc++6",
  "libxxhash-dev",
  "libzstd-dev",
  "libzycore-dev",
  "libzydis-dev",
  "nettle-dev",
  "nlohmann-json3-dev",
  "zlib1g-dev",
] as const;

/** Wanted by tests alone; without one the tests that need it say so and leave themselves out. */
export const testPackages = {
  chromium: "tests of the dashboard",
  e2fsprogs: "disks that can be filled and broken",
  iproute2: "network namespaces",
  libfaketime: "clocks that can be turned",
  mmdebstrap: "whole distributions of Debian, when asked for",
  nftables: "links that can be cut",
} as const;

/** Wanted by `npm run bench` alone. */
export const benchPackages = {
  "qemu-system-x86": "the peer that figures are compared with",
} as const;

/** Names from `wanted` that are not installed. */
export function missingPackages(wanted: readonly string[]): string[] {
  const listing = tryCapture(["dpkg-query", "-W", "-f", "${binary:Package} ${db:Status-Status}\n"]);
  if (listing === null) {
    throw new Error(
      'Cannot list installed packages: "dpkg-query" does not run here; ' +
        "building needs Debian 12 or a system derived from it",
    );
  }
  const installed = new Set<string>();
  for (const line of listing.split("\n")) {
    const [name = "", status] = line.split(" ");
    if (status === "installed") installed.add(name.split(":")[0] ?? "");
  }
  return wanted.filter((name) => !installed.has(name));
}

/** Installs what tests would like to have, where that is possible. */
export async function ensureTestPackages(): Promise<void> {
  if (process.getuid?.() === 0) await ensurePackages(Object.keys(testPackages));
}

/** Installs what is missing of `wanted`; as another user than root it says what to run. */
export async function ensurePackages(wanted: readonly string[]): Promise<void> {
  const missing = missingPackages(wanted);
  if (missing.length === 0) return;
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...missing];
  if (process.getuid?.() !== 0) {
    throw new Error(
      `Cannot build "node-mesh": Debian packages are missing; run as root: ` +
        `apt-get update && ${install.join(" ")}`,
    );
  }
  progress("setup", `installing ${missing.length} Debian packages: ${missing.join(" ")}`);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  await updateLists(env);
  await mustRunVisibly([...install, "-qq", "-o", "Dpkg::Use-Pty=0"], { env });
  const still = missingPackages(wanted);
  if (still.length > 0) {
    throw new Error(
      `Cannot install "${still.join(" ")}": apt-get ended well but did not install them`,
    );
  }
}

/** A third-party source that cannot be reached must not stop us: the install says what lacks. */
async function updateLists(env: Readonly<Record<string, string>>): Promise<void> {
  try {
    capture(["apt-get", "update", "-qq"], { env });
  } catch (error) {
    progress("setup", `apt-get update had problems, going on: ${firstLine(error)}`);
  }
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
