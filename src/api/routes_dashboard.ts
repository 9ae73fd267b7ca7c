/**
 * The dashboard's files, from the binary itself. They are the same for everybody and hold nothing
 * of this node, so they need no token; what they show they ask of the API.
 */
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import type { FastifyInstance } from "fastify";
import { type AssetName, assetBytes } from "../assets.ts";

const files: Readonly<Record<string, readonly [AssetName, string]>> = {
  "/": ["dashboard/index.html", "text/html; charset=utf-8"],
  "/dashboard.js": ["dashboard/dashboard.js", "text/javascript; charset=utf-8"],
  "/dashboard.css": ["dashboard/dashboard.css", "text/css; charset=utf-8"],
  "/favicon.svg": ["dashboard/favicon.svg", "image/svg+xml"],
};

/** Nothing from elsewhere, nothing inline, nobody may frame it. */
const safety = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
    "frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

interface Packed {
  readonly etag: string;
  readonly plain: Buffer;
  readonly gzip: Buffer;
  readonly brotli: Buffer;
}

export function dashboardRoutes(app: FastifyInstance): void {
  const packed = new Map<AssetName, Promise<Packed>>();
  for (const [path, [name, type]] of Object.entries(files)) {
    const options = { schema: { hide: true }, config: { open: true } };
    app.get(path, options, async (request, reply) => {
      const packing = packed.get(name) ?? pack(assetBytes(name));
      packed.set(name, packing);
      const file = await packing;
      void reply.headers({ ...safety, etag: file.etag, "cache-control": "no-cache" });
      void reply.header("vary", "accept-encoding");
      if (request.headers["if-none-match"] === file.etag) return reply.status(304).send();
      const accepts = String(request.headers["accept-encoding"] ?? "");
      const encoding = (["br", "gzip"] as const).find((one) => accepts.includes(one));
      if (encoding !== undefined) void reply.header("content-encoding", encoding);
      const body = encoding === "br" ? file.brotli : encoding === "gzip" ? file.gzip : file.plain;
      return reply.type(type).send(body);
    });
  }
}

async function pack(bytes: Uint8Array): Promise<Packed> {
  const plain = Buffer.from(bytes);
  const hash = createHash("sha256").update(plain).digest("base64url").slice(0, 22);
  // Done once, while a request waits: a quick setting.
  const params = { [constants.BROTLI_PARAM_QUALITY]: 5 };
  const [brotli, zipped] = await Promise.all([
    promisify(brotliCompress)(plain, { params }),
    promisify(gzip)(plain),
  ]);
  return { etag: `"${hash}"`, plain, gzip: zipped, brotli };
}
