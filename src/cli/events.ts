/** `node-mesh events`: what happened in the mesh, and what happens. */
import type { Command } from "commander";
import { NodeGoneError } from "../api/client.ts";
import type { MeshEvent } from "../api/schemas.ts";
import { action, type CommonOptions, clientOf, interruption, withJson } from "./context.ts";
import { print } from "./output.ts";

/** A node that is restarted is back by then. */
const reconnectMsMax = 60_000;
const retryMs = 200;

type EventsOptions = CommonOptions & { readonly follow?: boolean };

export function addEvents(program: Command): void {
  withJson(program.command("events"))
    .option("-f, --follow", "go on with what comes, until Ctrl-C")
    .summary("show what happens in the mesh")
    .description(
      "Shows what this node saw lately: nodes that come and go, VMs that start, switch and end. " +
        "With --json one event a line.",
    )
    .addHelpText("after", "\nExample:\n  node-mesh events -f --json | jq -r .text")
    .action(
      action(async (options: EventsOptions) => {
        const client = clientOf(options);
        const show = (event: MeshEvent): void => print(line(event, options.json === true));
        const recent = await client.recentEvents();
        for (const event of recent) show(event);
        if (options.follow === true) await follow(options, { show, after: recent.at(-1)?.id });
      }),
    );
}

async function follow(
  options: EventsOptions,
  { show, after }: { show: (event: MeshEvent) => void; after: string | undefined },
): Promise<void> {
  const signal = interruption();
  const client = clientOf(options);
  let last = after;
  let goneSince: number | null = null;
  while (!signal.aborted) {
    try {
      for await (const event of client.events({ after: last, signal })) {
        goneSince = null;
        last = event.id;
        show(event);
      }
    } catch (error) {
      if (!(error instanceof NodeGoneError)) throw error;
      goneSince ??= performance.now();
      if (performance.now() - goneSince > reconnectMsMax) throw error;
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }
}

function line(event: MeshEvent, json: boolean): string {
  if (json) return `${JSON.stringify(event)}\n`;
  return `${new Date(event.at_ms).toISOString().slice(11, 23)}  ${event.text}\n`;
}
