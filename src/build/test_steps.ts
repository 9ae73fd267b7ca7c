/**
 * The test suites as steps: native tests by CTest, TypeScript tests by Node's own runner. A test
 * belongs to the suite that its place says; every `*.test.ts` belongs to exactly one.
 */
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { mustRunVisibly } from "./_command.ts";
import type { Step } from "./_steps.ts";
import { ensureTestPackages } from "./debian_packages.ts";
import { debianKernel } from "./guest.ts";
import { buildNative, nativeTestCommand } from "./native.ts";
import { paths } from "./paths.ts";

export type Suite = "unit" | "simulation" | "integration";

/** The longest that one test may take before the runner ends it. */
const testMsMax = 15 * 60 * 1000;

/** What tests find in their environment: the binary, and a kernel of Debian's to boot. */
function testEnvironment(): Record<string, string> {
  return { NODE_MESH_BINARY: paths.binary, NODE_MESH_TEST_KERNEL: debianKernel() };
}

const places = ["mesh", "src", "test", "examples"];
const integrationPlaces = /^(test\/(matrix|chaos|e2e|binary|browser)|mesh\/cluster|examples)\//;

/** The suite of a test file, by its path in the checkout. */
export function suiteOf(file: string): Suite {
  if (integrationPlaces.test(file) || /\.(e2e|integration)\.test\.ts$/.test(file)) {
    return "integration";
  }
  return file.startsWith("test/sim/") ? "simulation" : "unit";
}

/** Test files of a suite whose path contains `filter`. */
export function testFiles(suite: Suite, filter: string): string[] {
  const found = places.flatMap((place) => globSync(`${place}/**/*.test.ts`, { cwd: paths.root }));
  return found.filter((file) => suiteOf(file) === suite && file.includes(filter)).sort();
}

/** Integration tests start whole nodes and guests: one file at a time, or they would starve. */
const concurrency: Record<Suite, number> = {
  unit: availableParallelism(),
  simulation: availableParallelism(),
  integration: 1,
};

export function suiteStep(
  suite: Suite,
  options: { readonly filter: string; needs?: string[] },
): Step {
  return {
    name: `${suite} tests`,
    ...(options.needs === undefined ? {} : { needs: options.needs }),
    run: async () => {
      const files = testFiles(suite, options.filter);
      if (files.length === 0) {
        process.stdout.write("no test file fits\n");
        return;
      }
      await mustRunVisibly(
        [
          paths.node,
          "--test",
          "--test-reporter=spec",
          `--test-concurrency=${concurrency[suite]}`,
          `--test-timeout=${testMsMax}`,
          ...files,
        ],
        { cwd: paths.root, env: testEnvironment() },
      );
    },
  };
}

export const testPackagesStep: Step = {
  name: "packages for tests",
  run: ensureTestPackages,
};

export const nativeBuildStep: Step = {
  name: "native build",
  run: () => buildNative("release"),
};

export const nativeTestStep: Step = {
  name: "native tests",
  needs: [nativeBuildStep.name],
  run: () => mustRunVisibly(nativeTestCommand("release"), { env: testEnvironment() }),
};

export const sanitizedBuildStep: Step = {
  name: "native build with sanitizers",
  run: () => buildNative("sanitized"),
};

export const sanitizedTestStep: Step = {
  name: "native tests with sanitizers",
  needs: [sanitizedBuildStep.name],
  run: () =>
    mustRunVisibly(nativeTestCommand("sanitized"), {
      env: { ...testEnvironment(), UBSAN_OPTIONS: "print_stacktrace=1" },
    }),
};
