/**
 * Where the API listens on TCP, and under which names it may be addressed. A page of another site
 * can make a browser send requests to this node under a name of its own (DNS rebinding): requests
 * are answered only under names that are this node's.
 */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { BlockList, isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { cannot, oneLine } from "../user_error.ts";

export interface ApiOptions {
  readonly host: string;
  readonly port: number;
  /** Paths of PEM files. */
  readonly cert?: string;
  readonly key?: string;
}

export interface Tls {
  readonly cert: string;
  readonly key: string;
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

export function isLoopback(host: string): boolean {
  if (host === "localhost") return true;
  const family = isIP(host);
  return family !== 0 && loopback.check(host, family === 6 ? "ipv6" : "ipv4");
}

/** `HOST:PORT`, `[V6]:PORT` or `:PORT` (loopback); null when it is none of them. */
export function parseApiAddress(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})$/.exec(text);
  if (match === null || Number(match[3]) > 65_535) return null;
  const host = match[1] ?? (match[2] === "" ? "127.0.0.1" : (match[2] ?? ""));
  return { host: host.toLowerCase(), port: Number(match[3]) };
}

/** The certificate, or null for plain HTTP, which only loopback may have. */
export function tlsOf(options: ApiOptions): Tls | null {
  const { host, cert, key } = options;
  const address = addressText(options);
  if ((cert === undefined) !== (key === undefined)) {
    throw cannot("open the API on", address, {
      why: "a certificate and its key belong together",
      remedy: "give both --api-cert and --api-key",
      kind: "invalid",
    });
  }
  if (cert === undefined || key === undefined) {
    if (isLoopback(host)) return null;
    throw cannot("open the API on", address, {
      why: "others could read along there: it is not loopback, and there is no TLS",
      remedy: "give --api-cert and --api-key, or use --api 127.0.0.1:PORT through ssh -L",
      kind: "invalid",
    });
  }
  const tls = { cert: readPem(cert, "--api-cert"), key: readPem(key, "--api-key") };
  try {
    const certificate = new X509Certificate(tls.cert);
    if (Date.parse(certificate.validTo) < Date.now()) throw new Error("it has expired");
  } catch (error) {
    throw cannot("use the certificate", cert, { why: oneLine(error), remedy: "check --api-cert" });
  }
  return tls;
}

export function addressText(options: { readonly host: string; readonly port: number }): string {
  return `${options.host.includes(":") ? `[${options.host}]` : options.host}:${options.port}`;
}

/** Is a request's Host header a name of this node? */
export function hostCheck(options: ApiOptions, tls: Tls | null): (header: string) => boolean {
  const certificate = tls === null ? null : new X509Certificate(tls.cert);
  const open = options.host === "0.0.0.0" || options.host === "::";
  const names = new Set([options.host, hostname().toLowerCase()]);
  if (isLoopback(options.host) || open)
    for (const name of ["localhost", "127.0.0.1", "::1"]) names.add(name);
  return (header) => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(header);
    const name = (match?.[1] ?? match?.[2] ?? "").toLowerCase();
    if (name === "") return false;
    if (names.has(name)) return true;
    if (open && isIP(name) !== 0) return ownAddresses().has(name);
    if (certificate === null) return false;
    return isIP(name) === 0
      ? certificate.checkHost(name) !== undefined
      : certificate.checkIP(name) !== undefined;
  };
}

function ownAddresses(): Set<string> {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return new Set(all.map(({ address }) => address.toLowerCase()));
}

function readPem(path: string, option: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw cannot("read", path, { why: oneLine(error), remedy: `check ${option}` });
  }
}
