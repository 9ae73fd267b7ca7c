/**
 * What set-up fetches from Debian and the build uses as it is: the source of the instruction
 * decoder, a stock kernel, a static busybox. Each is unpacked under .cache/ and renamed into place
 * when whole, so that an interrupted set-up is simply done again.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { capture } from "./_command.ts";
import { AptState } from "./apt_state.ts";
import { paths } from "./paths.ts";

interface Fetched {
  readonly place: string;
  fetch(apt: AptState, into: string): void;
}

const kernelMetaPackage = "linux-image-cloud-amd64";

const everything: readonly Fetched[] = [
  { place: paths.zydis, fetch: fetchZydis },
  {
    place: paths.kernel,
    fetch: (apt, into) =>
      fetchBinary(apt, apt.dependency(kernelMetaPackage, /^linux-image-.*-cloud-amd64$/), into),
  },
  { place: paths.busybox, fetch: (apt, into) => fetchBinary(apt, "busybox-static", into) },
];

/** Fetches what is not there yet. */
export function ensureFetched(): void {
  const missing = everything.filter((item) => !existsSync(item.place));
  if (missing.length === 0) return;
  const apt = AptState.open();
  for (const item of missing) {
    const partial = `${item.place}.partial`;
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    item.fetch(apt, partial);
    mkdirSync(dirname(item.place), { recursive: true });
    renameSync(partial, item.place);
  }
}

function fetchBinary(apt: AptState, packageName: string, into: string): void {
  apt.download(packageName, into);
  const deb = onlyFile(into, /\.deb$/);
  capture(["dpkg-deb", "-x", deb, into]);
  rmSync(deb);
}

function fetchZydis(apt: AptState, into: string): void {
  const download = join(into, "download");
  apt.downloadSource("zydis", download);
  const description = readFileSync(onlyFile(download, /\.dsc$/), "utf8");
  const archive = onlyFile(download, /\.orig\.tar\.[a-z0-9]+$/);
  verifySha256(archive, description);
  capture(["tar", "-xf", archive, "-C", into, "--strip-components=1"]);
  rmSync(download, { recursive: true });
}

/** The archive's SHA-256 as the signed description gives it. */
export function verifySha256(file: string, description: string): void {
  const name = file.slice(file.lastIndexOf("/") + 1);
  const section = description.split(/^Checksums-Sha256:\s*$/m)[1] ?? "";
  const entry = section.split("\n").find((line) => line.trim().split(/\s+/)[2] === name);
  const wanted = entry?.trim().split(/\s+/)[0];
  const found = createHash("sha256").update(readFileSync(file)).digest("hex");
  if (wanted !== found) {
    throw new Error(
      `Cannot use "${name}": its SHA-256 is ${found} but its description says ` +
        `${wanted ?? "nothing"}; remove .cache and run set-up again`,
    );
  }
}

function onlyFile(directory: string, pattern: RegExp): string {
  const names = readdirSync(directory).filter((name) => pattern.test(name));
  if (names.length !== 1 || names[0] === undefined) {
    throw new Error(`Cannot find what was fetched in "${directory}": ${names.length} files fit`);
  }
  return join(directory, names[0]);
}
