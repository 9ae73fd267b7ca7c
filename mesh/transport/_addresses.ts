/**
 * Where this node can be reached: listen addresses with wildcards replaced by the machine's own
 * addresses. libp2p leaves public addresses out until others have verified them, which a private
 * mesh cannot wait for.
 */

import { networkInterfaces } from "node:os";
import { multiaddr } from "@multiformats/multiaddr";
import { transportLimits } from "../limits.ts";

const WILDCARDS = new Set(["0.0.0.0", "::"]);

interface HostPort {
  readonly family: "ip4" | "ip6";
  readonly host: string;
  readonly port: string;
}

function hostPortOf(addr: string): HostPort | null {
  const parts = multiaddr(addr).getComponents();
  const family = parts.find(({ name }) => name === "ip4" || name === "ip6");
  const port = parts.find(({ name }) => name === "tcp")?.value;
  if (family?.value === undefined || port === undefined) return null;
  return { family: family.name as "ip4" | "ip6", host: family.value, port };
}

function machineHosts(family: "ip4" | "ip6"): string[] {
  const wanted = family === "ip4" ? "IPv4" : "IPv6";
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const usable = all.filter((info) => info.family === wanted && !info.address.startsWith("fe80:"));
  const outside = usable.filter(({ internal }) => !internal);
  return (outside.length > 0 ? outside : usable).map(({ address }) => address);
}

/**
 * @param listening the configured listen addresses
 * @param bound what the sockets are bound to, with real ports
 */
export function dialableAddresses(
  listening: readonly string[],
  options: { bound: readonly string[]; announce: readonly string[] },
): string[] {
  const found: string[] = [...options.announce];
  const bound = options.bound.map(hostPortOf).filter((item) => item !== null);
  for (const addr of listening) {
    const wanted = hostPortOf(addr);
    if (wanted === null) continue;
    const isWildcard = WILDCARDS.has(wanted.host);
    const match = bound.find(
      ({ family, host, port }) =>
        family === wanted.family &&
        (wanted.port === "0" || port === wanted.port) &&
        (isWildcard || host === wanted.host),
    );
    const port = match?.port ?? wanted.port;
    const hosts = isWildcard ? machineHosts(wanted.family) : [wanted.host];
    for (const host of hosts) found.push(`/${wanted.family}/${host}/tcp/${port}`);
  }
  return [...new Set(found)].slice(0, transportLimits.peerAddrsMax);
}
