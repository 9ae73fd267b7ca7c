/**
 * The single executable: Node itself without its symbol tables, with the bundle and all assets of
 * sea-config.json inside.
 */
import { chmodSync, existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { capture, progress, script } from "./_command.ts";
import { paths } from "./paths.ts";

const strippedNode = join(paths.build, "node-stripped");

/** Writes dist/node-mesh. */
export function buildExecutable(): void {
  stripNode();
  capture([paths.node, "--build-sea", join(paths.root, "sea-config.json")], { cwd: paths.root });
  // Made beside and renamed when whole: nodes that are running keep their own file.
  const fresh = join(paths.build, "node-mesh");
  chmodSync(fresh, 0o755);
  renameSync(fresh, paths.binary);
  progress("executable", `wrote dist/node-mesh, ${statSync(paths.binary).size} bytes`);
}

function stripNode(): void {
  if (existsSync(strippedNode) && statSync(strippedNode).mtimeMs > statSync(paths.node).mtimeMs) {
    return;
  }
  mkdirSync(paths.build, { recursive: true });
  capture(["strip", "--strip-unneeded", "-o", `${strippedNode}.new`, paths.node]);
  renameSync(`${strippedNode}.new`, strippedNode);
}

if (import.meta.main) await script(buildExecutable);
