/**
 * `npm test [-- FILTER]`: sets up, builds, and runs every test; FILTER keeps the test files whose
 * path contains it and leaves the native tests out.
 */
import { script } from "./_command.ts";
import { runSteps } from "./_steps.ts";
import { buildAll } from "./build.ts";
import { nativeBuildStep, nativeTestStep, suiteStep, testPackagesStep } from "./test_steps.ts";

const buildName = "set-up and build";

async function main(): Promise<void> {
  const filter = process.argv[2] ?? "";
  const native = filter === "" ? [nativeBuildStep, nativeTestStep] : [];
  const good = await runSteps("test", [
    { name: buildName, run: buildAll },
    testPackagesStep,
    ...native,
    suiteStep("unit", { filter, needs: [buildName] }),
    suiteStep("simulation", { filter }),
    suiteStep("integration", { filter, needs: [buildName] }),
  ]);
  if (!good) process.exitCode = 1;
}

if (import.meta.main) await script(main);
