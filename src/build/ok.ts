/** `npm run ok`: the gate that every change passes. */
import { script } from "./_command.ts";
import { runSteps } from "./_steps.ts";
import { buildAll } from "./build.ts";
import { lintSteps } from "./lint.ts";
import { setUp } from "./setup.ts";
import {
  nativeBuildStep,
  nativeTestStep,
  sanitizedBuildStep,
  sanitizedTestStep,
  suiteStep,
  testPackagesStep,
} from "./test_steps.ts";

const buildName = "build";

async function main(): Promise<void> {
  await setUp();
  const good = await runSteps("gate", [
    testPackagesStep,
    ...lintSteps(),
    nativeBuildStep,
    nativeTestStep,
    { name: buildName, run: buildAll, needs: [nativeBuildStep.name] },
    suiteStep("unit", { filter: "", needs: [buildName] }),
    suiteStep("simulation", { filter: "" }),
    sanitizedBuildStep,
    sanitizedTestStep,
    suiteStep("integration", { filter: "", needs: [buildName] }),
  ]);
  if (!good) process.exitCode = 1;
}

if (import.meta.main) await script(main);
