/** `node-mesh demo`: three nodes of this binary on this machine, and one of them killed twice. */
import type { Command } from "commander";
import { action } from "./context.ts";
import { selfCommand } from "./detach.ts";

export function addDemo(program: Command): void {
  program
    .command("demo")
    .option("--json", "print the verdict as JSON")
    .summary("show a VM that survives the kill of its node, here and now")
    .description(
      "Starts three nodes on this machine, runs the default guest, kills the node under it with " +
        "kill -9, twice, and says whether a line was lost. Takes about a minute; leaves nothing.",
    )
    .action(
      action(async (options: { readonly json?: boolean }) => {
        const { demo } = await import("../demo/demo.ts");
        await demo(selfCommand(), options);
      }),
    );
}
