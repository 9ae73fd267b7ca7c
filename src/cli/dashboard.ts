/** `node-mesh dashboard`: a link that signs a browser in to the node's dashboard. */
import type { Command } from "commander";
import { action, type CommonOptions, clientOf, withJson } from "./context.ts";
import { print, printJson } from "./output.ts";

export function addDashboard(program: Command): void {
  withJson(program.command("dashboard"))
    .summary("print a link that opens the node's dashboard")
    .description(
      "Prints a link that signs a browser in. It works once, and for a minute; the browser stays " +
        "signed in for twelve hours. The node must have been started with --api.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  xdg-open $(node-mesh dashboard)\n" +
        "  ssh -L 7070:127.0.0.1:7070 lab7 node-mesh dashboard",
    )
    .action(
      action(async (options: CommonOptions) => {
        const link = await clientOf(options).loginLink();
        if (options.json === true) printJson(link);
        else print(`${link.url}\n`);
      }),
    );
}
