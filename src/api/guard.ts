/**
 * What every request on TCP must pass before a route sees it: addressed to this node by a name of
 * its own, not sent by another site's page, from a caller who is known. The Unix socket needs none
 * of it: the file system has decided who may open it.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Access, Caller } from "./access.ts";
import { ApiError } from "./problem.ts";

declare module "fastify" {
  interface FastifyRequest {
    caller: Caller | null;
  }
  interface FastifyContextConfig {
    /** Anybody who reaches the node may ask this: it tells nothing about it. */
    readonly open?: boolean;
  }
}

export interface GuardOptions {
  readonly access: Access;
  readonly isOwnHost: (header: string) => boolean;
  readonly secure: boolean;
}

export function guardSocket(app: FastifyInstance): void {
  app.decorateRequest("caller", null);
  app.addHook("onRequest", async (request) => {
    request.caller = { who: "socket" };
  });
}

export function guardTcp(app: FastifyInstance, options: GuardOptions): void {
  app.decorateRequest("caller", null);
  app.addHook("onRequest", async (request) => {
    const host = request.headers.host ?? request.headers[":authority"] ?? "";
    if (typeof host !== "string" || !options.isOwnHost(host)) {
      throw new ApiError(
        "misdirected",
        `Cannot answer for "${String(host).slice(0, 100)}": this node has another name; ` +
          "use the address that it was started with",
      );
    }
    checkSite(request, `${options.secure ? "https" : "http"}://${host}`);
    request.caller = options.access.callerOf(request.headers);
    if (request.caller === null && request.routeOptions.config.open !== true) {
      throw new ApiError(
        "unauthorized",
        `Cannot answer "${request.method} ${request.url.split("?")[0]}": no valid token or ` +
          "session; send Authorization: Bearer with what is in the node's api.token, or open a " +
          "link of node-mesh dashboard",
      );
    }
  });
}

/** A browser says which site a page is from; another site's page gets nothing done here. */
function checkSite(request: FastifyRequest, own: string): void {
  const { origin } = request.headers;
  const site = request.headers["sec-fetch-site"];
  const isForeignOrigin = origin !== undefined && origin !== own;
  const isForeignSite = site === "cross-site" || site === "same-site";
  const navigates = request.headers["sec-fetch-mode"] === "navigate" && request.method === "GET";
  if (isForeignOrigin || (isForeignSite && !navigates)) {
    throw new ApiError(
      "forbidden",
      `Cannot answer a page of "${String(origin ?? site).slice(0, 100)}": only this node's own ` +
        "pages may ask; use a program with a token instead",
    );
  }
}
