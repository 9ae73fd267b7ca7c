/** `npm run demo`: builds what is missing and has the binary show a VM that outlives its nodes. */
import { runVisibly, script } from "./_command.ts";
import { buildAll } from "./build.ts";
import { paths } from "./paths.ts";

if (import.meta.main) {
  await script(async () => {
    await buildAll();
    process.exitCode = await runVisibly([paths.binary, "demo", ...process.argv.slice(2)]);
  });
}
