/** Starts this very command again in the background, and waits until its node answers. */
import { spawn } from "node:child_process";
import { openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { ApiClient, NodeGoneError } from "../api/client.ts";
import { isSingleExecutable } from "../assets.ts";
import { makePrivateDirectory } from "../private_directory.ts";
import { cannot } from "../user_error.ts";
import { print } from "./output.ts";

const startMsMax = 30_000;
const pollMs = 100;

/** How to start this program once more, with other arguments. */
export function selfCommand(): { readonly file: string; readonly args: readonly string[] } {
  const script = isSingleExecutable() ? [] : [process.argv[1] as string];
  return { file: process.execPath, args: script };
}

export async function detach(dataDir: string): Promise<void> {
  makePrivateDirectory(dataDir);
  const outPath = join(dataDir, "up.out");
  const out = openSync(outPath, "a", 0o600);
  const before = statSync(outPath).size;
  const { file, args } = selfCommand();
  const rest = process.argv.slice(2).filter((word) => word !== "-d" && word !== "--daemon");
  const child = spawn(file, [...args, ...rest], { detached: true, stdio: ["ignore", out, out] });
  let ended: string | null = null;
  child.once("error", (error) => {
    ended = error.message;
  });
  child.once("exit", (code) => {
    ended = `it ended with status ${code}`;
  });
  const client = new ApiClient(dataDir);
  const deadline = performance.now() + startMsMax;
  while (ended === null && performance.now() < deadline) {
    try {
      const status = await client.status();
      if (status.pid === child.pid) {
        child.unref();
        print(`node ${status.name} is up in the background as process ${status.pid}\n`);
        print("see: node-mesh status; end it with: node-mesh down\n");
        return;
      }
    } catch (error) {
      if (!(error instanceof NodeGoneError)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
  child.kill("SIGKILL");
  const said = readFileSync(outPath).subarray(before).toString("utf8").trim().split("\n").at(-1);
  const why = said === undefined || said === "" ? (ended ?? "it did not answer") : said;
  if (why.startsWith("Cannot ")) throw new Error(why);
  throw cannot("start the node of", dataDir, { why, remedy: `see ${outPath}` });
}
