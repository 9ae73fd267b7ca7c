/**
 * Verbs that are the monitor's own (`record`, `replay`, `verify`, `inspect`): this process becomes
 * the monitor, so that terminal, signals and exit status are its own.
 */
import { accessSync, constants } from "node:fs";
import type { Command } from "commander";
import { assetPath, defaultCommandLine } from "../assets.ts";
import { cannot } from "../user_error.ts";
import { action } from "./context.ts";

const verbs = [
  ["record", "<log>", "run a guest here and record it"],
  ["replay", "<log>", "run a recorded guest again, to the same bytes"],
  ["verify", "<log>", "check that a replay has the recorded digests"],
  ["inspect", "<log>", "show what is in a log"],
] as const;

export function addMonitorVerbs(program: Command): void {
  for (const [name, argument, summary] of verbs) {
    program
      .command(name)
      .argument("[words...]", argument)
      .usage(`${argument} [options]`)
      .summary(summary)
      .helpOption(false)
      .allowUnknownOption()
      .passThroughOptions()
      .action(action(async (words: readonly string[]) => handOver(name, words)));
  }
}

function handOver(verb: string, words: readonly string[]): void {
  const monitor = assetPath("vmm");
  try {
    accessSync(monitor, constants.X_OK);
  } catch {
    const remedy = "check NODE_MESH_VMM, or build the project";
    throw cannot(verb, words[0] ?? "", { why: `there is no monitor at ${monitor}`, remedy });
  }
  const args = [verb, ...words, ...(verb === "record" ? defaultGuest(words) : [])];
  process.execve?.(monitor, ["node-mesh", ...args], definedEnvironment());
}

/** What `record` runs when no kernel is given. */
function defaultGuest(words: readonly string[]): string[] {
  const asked = (option: string): boolean =>
    words.some((word) => word === option || word.startsWith(`${option}=`));
  if (asked("--kernel") || asked("--help") || asked("-h") || words.length === 0) return [];
  const images = ["--kernel", assetPath("guest/vmlinuz"), "--initrd", assetPath("guest/initrd")];
  return asked("--cmdline") ? images : [...images, "--cmdline", defaultCommandLine()];
}

function definedEnvironment(): Record<string, string> {
  const entries = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  return Object.fromEntries(entries);
}
