/** `npm run bench [-- ARGUMENTS]`: builds, installs the peer, and measures both in turn. */
import { script } from "./_command.ts";
import { runProgram } from "./_program.ts";
import { buildAll } from "./build.ts";
import { benchPackages, ensurePackages } from "./debian_packages.ts";

if (import.meta.main) {
  await script(async () => {
    await buildAll();
    await ensurePackages(Object.keys(benchPackages));
    await runProgram("test/bench/main.ts", process.argv.slice(2));
  });
}
