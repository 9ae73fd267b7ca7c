/** The options that `up` and `join` share. */
import type { Command } from "commander";
import { UsageError, withData } from "./context.ts";

export const defaultListen = "/ip4/0.0.0.0/tcp/4001";

export interface NodeOptions {
  readonly data?: string;
  readonly listen?: readonly string[];
  readonly name?: string;
  readonly daemon?: boolean;
}

export function withNodeOptions(command: Command): Command {
  return withData(command)
    .option(
      "--listen <address>",
      `HOST:PORT or multiaddr; may be repeated (default: ${defaultListen})`,
      (value: string, all: readonly string[] = []) => [...all, value],
    )
    .option("--name <name>", "how others see this node (default: the host's name)")
    .option("-d, --daemon", "go to the background when the node is up");
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
