/** `node-mesh ticket`: what other machines need to join, made, listed and revoked. */
import type { Command } from "commander";
import { meshRoles } from "../../mesh/membership/roles.ts";
import type { TicketView } from "../api/schemas_membership.ts";
import {
  action,
  type CommonOptions,
  clientOf,
  duration,
  roleList,
  wholeNumber,
  withData,
  withJson,
} from "./context.ts";
import { print, printJson, table } from "./output.ts";

const head = ["ID", "STATE", "USES", "ROLES", "EXPIRES", "MADE BY"];

interface CreateOptions extends CommonOptions {
  readonly expires: number;
  readonly uses: number;
  readonly roles: readonly (typeof meshRoles)[number][];
}

function withOrder(command: Command): Command {
  const uses = wholeNumber("--uses", { least: 0, most: 1_000_000 });
  return withJson(command)
    .option(
      "--expires <time>",
      "how long it lets nodes in: 30m, 24h, 7d",
      duration,
      duration("24h"),
    )
    .option("--uses <n>", "how many nodes may join with it; 0: any number", uses, 0)
    .option("--roles <list>", "what they may do: lend,use,administer", roleList, [...meshRoles]);
}

async function create(options: CreateOptions): Promise<void> {
  const { roles, uses, expires } = options;
  const ticket = await clientOf(options).ticket({ roles: [...roles], uses, life_ms: expires });
  if (options.json === true) printJson({ ticket });
  else print(`${ticket}\n`);
}

export function addTicket(program: Command): void {
  const ticket = withOrder(program.command("ticket"))
    .summary("print what another machine needs to join")
    .description(
      "Makes and prints a ticket: the mesh key, where to find this node, and a secret that lets " +
        "in. Whoever has it can join, so hand it over like a password. It expires, and can be " +
        "revoked. Without a subcommand it is `ticket create`.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  ssh lab7 node-mesh join -d $(node-mesh ticket --uses 1)\n" +
        "  node-mesh ticket create --expires 7d --roles lend\n  node-mesh ticket ls\n" +
        "  node-mesh ticket revoke kT3xW9aB",
    )
    .action(action(create));
  withOrder(ticket.command("create")).summary("make a ticket").action(action(create));
  withJson(ticket.command("ls"))
    .summary("list the tickets of the mesh")
    .action(
      action(async (options: CommonOptions) => {
        const tickets = await clientOf(options).tickets();
        if (options.json === true) printJson({ tickets });
        else print(table(head, tickets.map(row)));
      }),
    );
  withData(ticket.command("revoke"))
    .argument("<id>", "its id, or the end of it, as `ticket ls` shows it")
    .summary("let nobody in with a ticket any more")
    .description("Who joined with it stays; see `node remove`.")
    .action(
      action(async (id: string, options: CommonOptions) => {
        await clientOf(options).revokeTicket(id);
        print(`ticket ${id} is revoked\n`);
      }),
    );
}

function row(ticket: TicketView): string[] {
  return [
    ticket.id.slice(-8),
    ticket.state,
    ticket.uses === 0 ? String(ticket.used) : `${ticket.used} of ${ticket.uses}`,
    ticket.roles.join(","),
    new Date(ticket.expires_ms).toISOString().slice(0, 16).replace("T", " "),
    ticket.by,
  ];
}
