/** `node-mesh licenses`: the licences of this program and of all that it carries. */
import type { Command } from "commander";
import { assetText } from "../assets.ts";
import { action } from "./context.ts";
import { print } from "./output.ts";

export function addLicenses(program: Command): void {
  program
    .command("licenses")
    .summary("print the licences of all that is in this program")
    .action(
      action(async () => {
        print(`${assetText("LICENSES").trimEnd()}\n\n${assetText("guest/LICENSES").trimEnd()}\n`);
      }),
    );
}
