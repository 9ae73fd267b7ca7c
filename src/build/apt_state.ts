/**
 * A private apt: own package lists and cache under .cache/, so that source packages and single
 * packages can be fetched by any user, verified by apt against the archive's keys, without touching
 * the machine's own lists. Uses the machine's Debian sources of its own release and no others.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { capture, progress } from "./_command.ts";
import { paths } from "./paths.ts";

const sourceDirectory = "/etc/apt/sources.list.d";

export interface SourceFiles {
  /** Stanzas in the deb822 style (`.sources`). */
  readonly stanzas: string;
  /** Lines in the one-line style (`.list`). */
  readonly lines: string;
}

/** Rewrites the machine's apt sources to offer binary and source packages of `release` alone. */
export function privateSources(files: readonly SourceFiles[], release: string): SourceFiles {
  const stanzas: string[] = [];
  const lines: string[] = [];
  for (const file of files) {
    for (const stanza of file.stanzas.split(/\n\s*\n/)) {
      const kept = privateStanza(stanza, release);
      if (kept !== null) stanzas.push(kept);
    }
    for (const line of file.lines.split("\n")) {
      const match = /^\s*deb(?:-src)?\s+((?:\[[^\]]*\]\s+)?\S+\s+(\S+)\s.*)$/.exec(line);
      if (match?.[1] === undefined || !isOfRelease(match[2] ?? "", release)) continue;
      for (const type of ["deb", "deb-src"]) {
        const rewritten = `${type} ${match[1].trim()}`;
        if (!lines.includes(rewritten)) lines.push(rewritten);
      }
    }
  }
  return { stanzas: stanzas.join("\n\n"), lines: lines.join("\n") };
}

function privateStanza(stanza: string, release: string): string | null {
  const fields = stanza.split("\n").filter((line) => !line.startsWith("#"));
  const suites = fields.find((line) => /^suites:/i.test(line))?.slice("suites:".length) ?? "";
  if (
    !suites
      .trim()
      .split(/\s+/)
      .some((suite) => isOfRelease(suite, release))
  )
    return null;
  if (fields.some((line) => /^enabled:\s*no\b/i.test(line))) return null;
  return fields
    .map((line) => (/^types:/i.test(line) ? "Types: deb deb-src" : line))
    .join("\n")
    .trim();
}

/** The release itself, its updates and its security updates: not the suites of third parties. */
function isOfRelease(suite: string, release: string): boolean {
  return [release, `${release}-updates`, `${release}-security`].includes(
    suite.replace(/\/.*$/, ""),
  );
}

function machineSources(): SourceFiles[] {
  const files: SourceFiles[] = [];
  const add = (path: string): void => {
    const text = readFileSync(path, "utf8");
    if (path.endsWith(".sources")) files.push({ stanzas: text, lines: "" });
    else if (path.endsWith(".list")) files.push({ stanzas: "", lines: text });
  };
  if (existsSync("/etc/apt/sources.list")) add("/etc/apt/sources.list");
  if (existsSync(sourceDirectory)) {
    for (const name of readdirSync(sourceDirectory).sort()) add(join(sourceDirectory, name));
  }
  return files;
}

function releaseName(): string {
  const text = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
  const name = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(text)?.[1];
  if (name === undefined) {
    throw new Error(
      'Cannot fetch Debian packages: "/etc/os-release" names no release; ' +
        "building needs Debian 12 or a system derived from it",
    );
  }
  return name;
}

/** The private apt with fresh lists; make one only when something has to be fetched. */
export class AptState {
  readonly #options: readonly string[];

  private constructor(options: readonly string[]) {
    this.#options = options;
  }

  static open(): AptState {
    const release = releaseName();
    const sources = privateSources(machineSources(), release);
    if (sources.stanzas === "" && sources.lines === "") {
      throw new Error(
        `Cannot fetch Debian packages: apt has no source for "${release}"; add one to /etc/apt`,
      );
    }
    const parts = join(paths.apt, "sources.d");
    for (const directory of [parts, "lists/partial", "cache/archives/partial"]) {
      mkdirSync(directory.startsWith("/") ? directory : join(paths.apt, directory), {
        recursive: true,
      });
    }
    writeFileSync(join(parts, "private.sources"), `${sources.stanzas}\n`);
    writeFileSync(join(parts, "private.list"), `${sources.lines}\n`);
    const options = [
      "Dir::Etc::SourceList=/dev/null",
      `Dir::Etc::SourceParts=${parts}`,
      `Dir::State::Lists=${join(paths.apt, "lists")}`,
      `Dir::Cache=${join(paths.apt, "cache")}`,
      "Acquire::Languages=none",
      "APT::Sandbox::User=root",
      "APT::Get::List-Cleanup=true",
    ].flatMap((option) => ["-o", option]);
    const state = new AptState(options);
    progress("setup", `reading the package lists of ${release}`);
    capture(["apt-get", ...options, "update", "-qq"]);
    return state;
  }

  /** The name of the package that a meta package stands for. */
  dependency(metaPackage: string, pattern: RegExp): string {
    const output = capture(["apt-cache", ...this.#options, "depends", "--important", metaPackage]);
    for (const line of output.split("\n")) {
      const name = /^\s*Depends:\s*(\S+)/.exec(line)?.[1];
      if (name !== undefined && pattern.test(name)) return name;
    }
    throw new Error(
      `Cannot find what "${metaPackage}" stands for: it depends on nothing that fits`,
    );
  }

  /** Downloads one binary package into `directory`. */
  download(packageName: string, directory: string): void {
    mkdirSync(directory, { recursive: true });
    progress("setup", `fetching ${packageName}`);
    capture(["apt-get", ...this.#options, "download", packageName], { cwd: directory });
  }

  /** Downloads the files of one source package (verified by apt) into `directory`. */
  downloadSource(packageName: string, directory: string): void {
    mkdirSync(directory, { recursive: true });
    progress("setup", `fetching the source of ${packageName}`);
    capture(["apt-get", ...this.#options, "source", "--download-only", packageName], {
      cwd: directory,
    });
  }
}
