/** `node-mesh status`: what this node is doing. */
import type { Command } from "commander";
import { action, type CommonOptions, clientOf, withJson } from "./context.ts";
import { age, facts, print, printJson, size, table } from "./output.ts";

const head = ["VM", "ROLE", "STATE", "LOG CHUNKS"];

export function addStatus(program: Command): void {
  withJson(program.command("status"))
    .summary("show what this node is doing")
    .description("Shows this node: its addresses, peers, and the VM copies it holds.")
    .action(
      action(async (options: CommonOptions) => {
        const status = await clientOf(options).status();
        if (options.json === true) {
          printJson(status);
          return;
        }
        print(
          facts([
            ["node", `${status.name}  ${status.id}`],
            ["version", status.version],
            ["process", `${status.pid}, up for ${age(Date.now() - status.started_ms)}`],
            ["data", status.data],
            ...status.addresses.map((address): [string, string] => ["listens on", address]),
            ...(status.api === null ? [] : [["API", status.api] as [string, string]]),
            ["peers", `${status.peers_connected} connected of ${status.peers} known`],
            ["lends", `${size(status.memory_free_bytes)} more memory to guests`],
            ["own memory", size(status.memory_used_bytes)],
          ]),
        );
        if (status.copies.length > 0) {
          const rows = status.copies.map((copy) => [
            copy.name,
            copy.role,
            copy.leader ? `${copy.state}, leads` : copy.state,
            String(copy.chunks),
          ]);
          print(`\n${table(head, rows)}`);
        }
      }),
    );
}
