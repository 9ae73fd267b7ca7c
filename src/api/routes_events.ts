/** Changes of the mesh as server-sent events, resumable by the id of the last one that was seen. */
import type { Static } from "@sinclair/typebox";
import { Type } from "@sinclair/typebox";
import type { FastifyInstance, FastifyReply } from "fastify";
import type { DaemonParts } from "../daemon/daemon.ts";
import { writeAll } from "./ndjson.ts";
import { operation, signalOf } from "./operation.ts";
import { apiLimits, EventsQuerySchema, EventsSchema, type MeshEvent } from "./schemas.ts";

type Query = Static<typeof EventsQuerySchema>;

/** A browser that lost the stream comes back after this. */
const retryMs = 1_000;

export function eventRoutes(app: FastifyInstance, daemon: DaemonParts): void {
  const events = operation({
    tag: "events",
    id: "followEvents",
    summary: "What changes in the mesh",
    description:
      "A stream of server-sent events; the data of each is an Event as JSON. With Last-Event-ID it " +
      "goes on behind that event; an event of kind `reset` says that some were missed. With " +
      "`follow=false` the newest events as one JSON answer.",
    querystring: EventsQuerySchema,
    answers: {
      200: {
        says: "The events.",
        types: { "text/event-stream": Type.String(), "application/json": EventsSchema },
      },
    },
  });
  app.get<{ Querystring: Query }>("/v1/events", events, async (request, reply) => {
    const header = request.headers["last-event-id"];
    const last = (typeof header === "string" ? header : request.query.last_event_id) ?? null;
    if (request.query.follow === "false") {
      return { events: daemon.observatory.events.after(last) };
    }
    return follow(daemon, reply, last);
  });
}

async function follow(
  daemon: DaemonParts,
  reply: FastifyReply,
  last: string | null,
): Promise<void> {
  const signal = signalOf(reply);
  const { raw } = reply.hijack();
  const { observatory } = daemon;
  const unwatch = observatory.watching();
  const alive = setInterval(() => {
    if (raw.writableLength === 0) raw.write(":\n\n");
  }, apiLimits.heartbeatMs);
  try {
    raw.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    // Where to go on if nothing happens before the connection is lost.
    const from = last ?? observatory.events.lastId;
    await writeAll(raw, { text: `retry: ${retryMs}\nid: ${from}\n\n`, signal });
    for await (const batch of observatory.events.follow(from, { signal })) {
      await writeAll(raw, { text: batch.map(eventText).join(""), signal });
    }
  } catch {
    // The reader is gone.
  } finally {
    clearInterval(alive);
    unwatch();
    raw.destroy();
  }
}

function eventText(event: MeshEvent): string {
  return `id: ${event.id}\ndata: ${JSON.stringify(event)}\n\n`;
}
