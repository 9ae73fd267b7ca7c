/** Runs `node-mesh chaos` of the built binary, as a user does. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type { ScenarioVerdict } from "../../src/chaos/run_scenario.ts";
import { program } from "./cluster.ts";

const root = join(import.meta.dirname, "../..");

/** The verdict of the one scenario that the words name. */
export function runChaos(words: readonly string[]): ScenarioVerdict {
  const { file, args } = program();
  const done = spawnSync(file, [...args, "chaos", ...words, "--json"], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const line = done.stdout.trim().split("\n").at(-1) ?? "";
  if (!line.startsWith("{")) throw new Error(`no verdict (status ${done.status}): ${done.stderr}`);
  const verdict = JSON.parse(line) as ScenarioVerdict;
  if (verdict.good !== (done.status === 0)) throw new Error(`status ${done.status} with ${line}`);
  if (!verdict.good) console.error(done.stderr);
  return verdict;
}
