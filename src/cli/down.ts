/** `node-mesh down`: ends a node that runs in the background. */
import type { Command } from "commander";
import { NodeGoneError } from "../api/client.ts";
import { cannot } from "../user_error.ts";
import { action, type CommonOptions, clientOf, withData } from "./context.ts";
import { print } from "./output.ts";

const stopMsMax = 15_000;
const pollMs = 50;

export function addDown(program: Command): void {
  withData(program.command("down"))
    .summary("end the node")
    .description(
      "Ends the node in order. Its VMs go on elsewhere; it takes part again at its next start.",
    )
    .action(
      action(async (options: CommonOptions) => {
        const client = clientOf(options);
        const { pid, name } = await client.status();
        process.kill(pid, "SIGTERM");
        const deadline = performance.now() + stopMsMax;
        while (performance.now() < deadline) {
          try {
            await client.status();
          } catch (error) {
            if (!(error instanceof NodeGoneError)) throw error;
            print(`node ${name} has ended\n`);
            return;
          }
          await new Promise((resolve) => setTimeout(resolve, pollMs));
        }
        const remedy = `end process ${pid} by hand`;
        throw cannot("end node", name, { why: "it still answers", remedy });
      }),
    );
}
