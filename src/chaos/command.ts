/** Programs of the host that set up and change its network and disks. */
import { execFileSync } from "node:child_process";
import { oneLine } from "../user_error.ts";

/** Runs a command to its end; what it printed. Throws with its own words when it fails. */
export function command(words: readonly string[], input = ""): string {
  const [file, ...args] = words;
  try {
    const stdio = ["pipe", "pipe", "pipe"] as const;
    return execFileSync(file ?? "", args, { encoding: "utf8", input, stdio: [...stdio] });
  } catch (error) {
    const said = oneLine((error as { stderr?: string }).stderr || error);
    throw new Error(`${words.slice(0, 4).join(" ")}: ${said}`);
  }
}

/** For undoing: what is not there any more needs no removal. */
export function quietly(words: readonly string[]): void {
  try {
    command(words);
  } catch {
    // It was not there.
  }
}

/** Why something cannot be done here; null if the probe went through. */
export function probe(what: string, run: () => void): string | null {
  try {
    run();
    return null;
  } catch (error) {
    return `${what} cannot be used here: ${oneLine(error)}`;
  }
}
