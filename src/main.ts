/** The program `node-mesh`. Everything it can do is a verb in cli/. */
import { fail } from "./cli/context.ts";
import { runProgram } from "./cli/program.ts";

// A reader that has seen enough (`| head`) is no fault.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 1);
});
process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);

await runProgram(process.argv);
