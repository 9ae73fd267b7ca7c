/** `npm run demo`: builds what is missing and shows a VM that outlives the nodes it runs on. */
import { script } from "./_command.ts";
import { runProgram } from "./_program.ts";
import { buildAll } from "./build.ts";

if (import.meta.main) {
  await script(async () => {
    await buildAll();
    await runProgram("src/demo/main.ts", process.argv.slice(2));
  });
}
