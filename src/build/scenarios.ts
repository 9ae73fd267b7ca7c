/** Packs the scenarios of src/chaos/scenarios/ into one file: name -> text. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { progress, script } from "./_command.ts";
import { paths } from "./paths.ts";

const ending = ".chaos";

export function packScenarios(): void {
  const files = readdirSync(paths.scenarioSource).filter((name) => name.endsWith(ending));
  const texts = files
    .sort()
    .map((name) => [
      basename(name, ending),
      readFileSync(join(paths.scenarioSource, name), "utf8"),
    ]);
  mkdirSync(dirname(paths.scenarios), { recursive: true });
  writeFileSync(paths.scenarios, JSON.stringify(Object.fromEntries(texts)));
  progress("scenarios", `packed ${files.length}`);
}

if (import.meta.main) await script(packScenarios);
