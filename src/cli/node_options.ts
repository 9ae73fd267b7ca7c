/** The options that `up` and `join` share. */
import { type Command, Option } from "commander";
import { parseApiAddress } from "../api/listen_options.ts";
import type { ApiOptions } from "../api/server.ts";
import { type LogFormat, type LogLevel, logFormats, logLevels } from "../daemon/node_log.ts";
import { duration, UsageError, withData } from "./context.ts";

export const defaultListen = "/ip4/0.0.0.0/tcp/4001";

export interface NodeOptions {
  readonly data?: string;
  readonly listen?: readonly string[];
  readonly name?: string;
  readonly bootstrap?: readonly string[];
  readonly domain?: string;
  /** Milliseconds. */
  readonly replaceAfter?: number;
  readonly daemon?: boolean;
  readonly api?: string;
  readonly apiCert?: string;
  readonly apiKey?: string;
  readonly logLevel?: LogLevel;
  readonly logFormat?: LogFormat;
}

export function withNodeOptions(command: Command): Command {
  return withData(command)
    .option(
      "--listen <address>",
      `HOST:PORT or multiaddr; may be repeated (default: ${defaultListen})`,
      (value: string, all: readonly string[] = []) => [...all, value],
    )
    .option(
      "--bootstrap <multiaddr>",
      "a member to find the mesh by, beside those remembered; may be repeated",
      (value: string, all: readonly string[] = []) => [...all, value],
    )
    .option(
      "--domain <name>",
      "what fails together with this node (a room, a power line); members of a VM are spread",
      domainName,
    )
    .addOption(
      new Option(
        "--replace-after <time>",
        "a member of a VM led here is replaced when it is away this long (default: 30s)",
      )
        .env("NODE_MESH_REPLACE_AFTER")
        .argParser(duration),
    )
    .option("--name <name>", "how others see this node (default: the host's name)")
    .option("-d, --daemon", "go to the background when the node is up")
    .option("--api <address>", "HTTP API and dashboard on HOST:PORT, or :PORT for loopback")
    .option("--api-cert <file>", "certificate of the API (PEM); needed beyond loopback")
    .option("--api-key <file>", "its private key (PEM)")
    .addOption(new Option("--log-level <level>", "of node.log").choices([...logLevels]))
    .addOption(new Option("--log-format <format>", "of node.log").choices([...logFormats]));
}

/** Where the API listens on TCP; undefined: nowhere. */
export function apiOptions(options: NodeOptions): ApiOptions | undefined {
  const { api, apiCert, apiKey } = options;
  if (api === undefined) {
    if (apiCert === undefined && apiKey === undefined) return undefined;
    throw new UsageError('Cannot use "--api-cert": there is no --api; give both');
  }
  const address = parseApiAddress(api);
  if (address === null) {
    throw new UsageError(
      `Cannot open the API on "${api}": it is not HOST:PORT or :PORT; try --api 127.0.0.1:7070`,
    );
  }
  return {
    ...address,
    ...(apiCert === undefined ? {} : { cert: apiCert }),
    ...(apiKey === undefined ? {} : { key: apiKey }),
  };
}

function domainName(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text)) return text;
  throw new UsageError(
    `Cannot use domain "${text.slice(0, 64)}": it is not 1 to 63 letters, digits, ".", "_" or "-"`,
  );
}

/** `HOST:PORT`, `:PORT` or a multiaddr, as a multiaddr. */
export function listenAddress(text: string): string {
  const simple = /^(?:([0-9.]+)|\[([0-9a-fA-F:]+)\])?:(\d{1,5})$/.exec(text);
  const bad = `Cannot listen on "${text}": it is neither HOST:PORT nor a multiaddr; `;
  if (simple !== null && Number(simple[3]) <= 65_535) {
    const host = simple[2] === undefined ? `/ip4/${simple[1] ?? "0.0.0.0"}` : `/ip6/${simple[2]}`;
    return listenAddress(`${host}/tcp/${simple[3]}`);
  }
  if (/^\/(ip4|ip6|dns4?|dns6)\/[^/]+\/tcp\/\d+$/.test(text)) return text;
  throw new UsageError(`${bad}try --listen 127.0.0.1:4001`);
}
