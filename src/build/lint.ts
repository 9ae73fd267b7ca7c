/**
 * Types, format and lint of both languages. With --write the formatters change the files instead of
 * complaining.
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { capture, mustRunVisibly, script } from "./_command.ts";
import { runSteps, type Step } from "./_steps.ts";
import { paths } from "./paths.ts";
import { setUp } from "./setup.ts";

/** Checks of cppcheck that contradict how this code is written, each with its reason. */
const cppcheckSuppressions = [
  "missingIncludeSystem", // system headers are not read: the compiler knows them better
  "unusedFunction", // it looks at one file at a time
  "internalAstError", // its parser's own limits with C++23
  "syntaxError", // likewise; the compiler is the judge of syntax
  "unknownMacro", // test macros of doctest
  "compareBoolExpressionWithInt", // conditions of the guest's flags are compared with 0 and 1
  "passedByValue", // small plain structs are meant to be copied
  "uninitvar:*/test/stub_harness.cc", // it cannot see that inline assembly writes
] as const;

export function lintSteps(options: { readonly write?: boolean } = {}): Step[] {
  const write = options.write === true;
  return [
    {
      name: "types",
      run: () =>
        mustRunVisibly([paths.node, `${paths.nodeModules}/typescript/bin/tsc`, "-p", paths.root]),
    },
    {
      name: "types of the dashboard",
      run: () =>
        mustRunVisibly([
          paths.node,
          `${paths.nodeModules}/typescript/bin/tsc`,
          "-p",
          join(paths.root, "src/dashboard"),
        ]),
    },
    {
      name: "TypeScript format and lint",
      run: () =>
        mustRunVisibly(
          [
            paths.node,
            `${paths.nodeModules}/@biomejs/biome/bin/biome`,
            "check",
            "--error-on-warnings",
            ...(write ? ["--write"] : []),
          ],
          { cwd: paths.root },
        ),
    },
    {
      name: "C++ format",
      run: () =>
        mustRunVisibly(
          ["clang-format", ...(write ? ["-i"] : ["--dry-run", "-Werror"]), ...nativeFiles()],
          { cwd: paths.root },
        ),
    },
    { name: "C++ lint", run: lintNative },
  ];
}

/** Sources of native/, those not yet known to git included. */
function nativeFiles(): string[] {
  const listing = capture(
    ["git", "ls-files", "-co", "--exclude-standard", "native/*.cc", "native/*.h"],
    { cwd: paths.root },
  );
  return listing.split("\n").filter((file) => file !== "");
}

async function lintNative(): Promise<void> {
  await mustRunVisibly(
    [
      "cppcheck",
      "--quiet",
      "--language=c++",
      "--std=c++20",
      "--enable=warning,performance,portability",
      "--inline-suppr",
      "--error-exitcode=1",
      `-j${availableParallelism()}`,
      `-I${paths.native}`,
      ...cppcheckSuppressions.map((name) => `--suppress=${name}`),
      ...nativeFiles().filter((file) => file.endsWith(".cc")),
    ],
    { cwd: paths.root },
  );
}

if (import.meta.main) {
  await script(async () => {
    await setUp();
    const good = await runSteps("lint", lintSteps({ write: process.argv.includes("--write") }));
    if (!good) process.exitCode = 1;
  });
}
