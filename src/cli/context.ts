/**
 * What every verb needs: which node is meant, where text goes, and how a verb ends. A verb throws;
 * only `runVerb` turns that into one line and an exit status.
 */
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { type MeshRole, meshRoles } from "../../mesh/membership/roles.ts";
import { ApiClient } from "../api/client.ts";
import { homeDirectory } from "../home_directory.ts";
import { oneLine, UserError } from "../user_error.ts";

export const exitFailed = 1;
export const exitUsage = 2;

/** Wrong usage found by a verb itself. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** The node that a command means: as told, or the user's own, or the machine's without a home. */
export function dataDirOf(options: { readonly data?: string | undefined }): string {
  const given = options.data ?? process.env["NODE_MESH_DATA"] ?? "";
  if (given !== "") return resolve(given);
  const home = homeDirectory();
  const usual = home === "" ? "/var/lib" : join(home, ".local/share");
  return join(process.env["XDG_DATA_HOME"] || usual, "node-mesh");
}

export interface CommonOptions {
  readonly data?: string;
  readonly json?: boolean;
}

export function clientOf(options: CommonOptions): ApiClient {
  return new ApiClient(dataDirOf(options));
}

export function withData(command: Command): Command {
  return command.option("--data <dir>", "which node is meant (also NODE_MESH_DATA)");
}

export function withJson(command: Command): Command {
  return withData(command).option("--json", "print JSON");
}

/** Runs a verb's action; what it throws ends the process with one line. */
export function action<T extends unknown[]>(
  run: (...args: T) => Promise<void>,
): (...args: T) => Promise<void> {
  return async (...args) => {
    try {
      await run(...args);
    } catch (error) {
      fail(error);
    }
  };
}

/** One line on standard error, and the right exit status; never a stack trace. */
export function fail(error: unknown): never {
  const usage = error instanceof UsageError;
  process.stderr.write(`${explain(error)}\n`);
  process.exit(usage ? exitUsage : exitFailed);
}

function explain(error: unknown): string {
  const line = oneLine(error);
  if (error instanceof UserError || error instanceof UsageError) return line;
  if (line.startsWith("Cannot ")) return line;
  return `Cannot go on: ${line === "" ? "an unknown fault" : line}; see the node's log`;
}

/** A whole number from an option, or wrong usage. */
export function wholeNumber(name: string, range: { least: number; most: number }) {
  return (text: string): number => {
    const value = Number(text);
    if (!/^\d{1,15}$/.test(text) || value < range.least || value > range.most) {
      throw new UsageError(
        `Cannot use ${name} "${text}": it is not a whole number from ${range.least} to ` +
          `${range.most}; see --help`,
      );
    }
    return value;
  };
}

/** Aborted by Ctrl-C or SIGTERM; the second one ends the process at once. */
export function interruption(): AbortSignal {
  const stop = new AbortController();
  for (const [signal, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    process.on(signal, () => {
      if (stop.signal.aborted) process.exit(status);
      stop.abort();
    });
  }
  return stop.signal;
}

const unitsMs: Readonly<Record<string, number>> = { s: 1e3, m: 60e3, h: 3_600e3, d: 86_400e3 };

/** A time such as 30s, 10m, 24h or 7d in milliseconds, or wrong usage. */
export function duration(text: string): number {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const valueMs = Number(count ?? 0) * (unitsMs[unit ?? ""] ?? 0);
  if (valueMs > 0) return valueMs;
  throw new UsageError(`Cannot use time "${oneLine(text)}": it is no time; try 30m, 24h or 7d`);
}

/** Roles as a list with commas, or `none`, or wrong usage. */
export function roleList(text: string): MeshRole[] {
  const words = text === "none" ? [] : text.split(",");
  const wrong = words.find((word) => !(meshRoles as readonly string[]).includes(word));
  if (wrong === undefined) return meshRoles.filter((role) => words.includes(role));
  throw new UsageError(
    `Cannot use role "${oneLine(wrong)}": there is none of that name; ` +
      `use ${meshRoles.join(", ")} or none`,
  );
}
