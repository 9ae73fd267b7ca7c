/** Runs a verb of the program under test, as a user does. */
import { spawn } from "node:child_process";
import { program } from "./cluster.ts";

export interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a verb of the program to its end. */
export function runVerb(
  words: readonly string[],
  options: { readonly timeoutMs?: number } = {},
): Promise<Ended> {
  const { file, args } = program();
  return new Promise((resolve, reject) => {
    const child = spawn(file, [...args, ...words], { stdio: ["ignore", "pipe", "pipe"] });
    const late = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 60_000);
    let out = "";
    let err = "";
    child.stdout.on("data", (piece: Buffer) => {
      out += piece.toString();
    });
    child.stderr.on("data", (piece: Buffer) => {
      err += piece.toString();
    });
    child.once("error", reject);
    child.once("close", (status) => {
      clearTimeout(late);
      resolve({ status, out, err });
    });
  });
}
