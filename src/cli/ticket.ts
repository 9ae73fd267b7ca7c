/** `node-mesh ticket`: what another machine needs to join. */
import type { Command } from "commander";
import { action, type CommonOptions, clientOf, withJson } from "./context.ts";
import { print, printJson } from "./output.ts";

export function addTicket(program: Command): void {
  withJson(program.command("ticket"))
    .summary("print what another machine needs to join")
    .description(
      "Prints a ticket: the mesh key and this node's addresses in one string. Whoever has it can " +
        "join, so hand it over like a password.",
    )
    .addHelpText("after", "\nExample:\n  ssh lab7 node-mesh join -d $(node-mesh ticket)")
    .action(
      action(async (options: CommonOptions) => {
        const ticket = await clientOf(options).ticket();
        if (options.json === true) printJson({ ticket });
        else print(`${ticket}\n`);
      }),
    );
}
