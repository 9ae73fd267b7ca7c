/** Starts a program of this checkout, after what it needs was built, with the arguments given. */
import { join } from "node:path";
import { runVisibly } from "./_command.ts";
import { paths } from "./paths.ts";

/** Runs `entry` (a path in the checkout) and takes over its exit status. */
export async function runProgram(entry: string, args: readonly string[]): Promise<void> {
  const status = await runVisibly([paths.node, join(paths.root, entry), ...args], {
    cwd: paths.root,
    env: { NODE_MESH_BINARY: paths.binary },
  });
  process.exitCode = status;
}
