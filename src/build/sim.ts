/** `npm run sim [-- ARGUMENTS]`: the seeded simulator of the group, by hand. */
import { script } from "./_command.ts";
import { runProgram } from "./_program.ts";

if (import.meta.main) await script(() => runProgram("test/sim/main.ts", process.argv.slice(2)));
