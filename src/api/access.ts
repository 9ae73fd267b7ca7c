/**
 * Who may use the API on TCP: whoever has the node's token, or a browser's session that began with
 * it. The token is in a file that only the node's owner may read; sessions are in memory and end.
 * Nothing secret is ever part of an address but a code that works once, for a minute.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cannot, oneLine } from "../user_error.ts";

export const accessLimits = {
  tokenBytes: 32,
  codeMs: 60_000,
  codesMax: 16,
  /** A browser that comes back later signs in again. */
  sessionMs: 12 * 3_600_000,
  sessionsMax: 64,
} as const;

export const cookieName = "node_mesh_session";

export type Caller =
  | { readonly who: "socket" | "token" }
  | { readonly who: "session"; readonly endsMs: number };

export function tokenFile(dataDir: string): string {
  return join(dataDir, "api.token");
}

/** The node's token; made when there is none. */
export function loadToken(dataDir: string): string {
  const file = tokenFile(dataDir);
  try {
    const text = readFileSync(file, "utf8").trim();
    if (/^[\w-]{20,128}$/.test(text)) return text;
    throw cannot("use the API token in", file, {
      why: "it is not 20 to 128 letters, digits, - and _",
      remedy: "remove the file, and a new one is made",
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
      if (error instanceof Error && error.name === "UserError") throw error;
      throw cannot("read the API token in", file, {
        why: oneLine(error),
        remedy: "check its owner and mode",
      });
    }
  }
  const token = `nmt_${randomBytes(accessLimits.tokenBytes).toString("base64url")}`;
  writeFileSync(`${file}.new`, `${token}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
  return token;
}

export class Access {
  readonly #tokenHash: Buffer;
  readonly #now: () => number;
  readonly #codes = new Map<string, number>();
  readonly #sessions = new Map<string, number>();

  constructor(token: string, options: { readonly now: () => number }) {
    this.#tokenHash = hash(token);
    this.#now = options.now;
  }

  isToken(text: string): boolean {
    return timingSafeEqual(hash(text), this.#tokenHash);
  }

  /** A code for a login link. */
  newCode(): { readonly code: string; readonly endsMs: number } {
    return add(this.#codes, {
      endsMs: this.#now() + accessLimits.codeMs,
      most: accessLimits.codesMax,
    });
  }

  /** A session for a code that was not used before. */
  useCode(code: string): { readonly id: string; readonly endsMs: number } | null {
    const key = keyOf(code);
    const endsMs = this.#codes.get(key);
    this.#codes.delete(key);
    return endsMs === undefined || endsMs < this.#now() ? null : this.newSession();
  }

  newSession(): { readonly id: string; readonly endsMs: number } {
    const { code, endsMs } = add(this.#sessions, {
      endsMs: this.#now() + accessLimits.sessionMs,
      most: accessLimits.sessionsMax,
    });
    return { id: code, endsMs };
  }

  endSession(id: string): void {
    this.#sessions.delete(keyOf(id));
  }

  /** Who sends these headers; null: nobody who is known. */
  callerOf(headers: { authorization?: string | undefined; cookie?: string | undefined }) {
    const bearer = /^Bearer ([^\s]{1,256})$/i.exec(headers.authorization ?? "")?.[1];
    if (bearer !== undefined) return this.isToken(bearer) ? ({ who: "token" } as const) : null;
    const id = sessionIdOf(headers.cookie);
    if (id === null) return null;
    const endsMs = this.#sessions.get(keyOf(id));
    if (endsMs === undefined || endsMs < this.#now()) return null;
    return { who: "session", endsMs } as const satisfies Caller;
  }
}

export function sessionIdOf(cookie: string | undefined): string | null {
  const match = new RegExp(`(?:^|;\\s*)${cookieName}=([\\w-]{1,128})(?:;|$)`).exec(cookie ?? "");
  return match?.[1] ?? null;
}

export function sessionCookie(id: string, options: { endsMs: number; secure: boolean }): string {
  const expires = new Date(options.endsMs).toUTCString();
  const secure = options.secure ? "; Secure" : "";
  return `${cookieName}=${id}; Path=/; HttpOnly; SameSite=Strict; Expires=${expires}${secure}`;
}

/** What is kept is a hash: a look into memory or a timing difference gives no session away. */
function add(
  map: Map<string, number>,
  options: { readonly endsMs: number; readonly most: number },
): { readonly code: string; readonly endsMs: number } {
  const code = randomBytes(accessLimits.tokenBytes).toString("base64url");
  map.set(keyOf(code), options.endsMs);
  const oldest = map.keys().next().value;
  if (map.size > options.most && oldest !== undefined) map.delete(oldest);
  return { code, endsMs: options.endsMs };
}

function hash(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function keyOf(text: string): string {
  return hash(text).toString("hex");
}
