/**
 * Directories for their owner alone. Made step by step: Node's own recursive mkdir never returns
 * where the file system refuses new directories with ENOENT, as /proc does.
 */
import { accessSync, constants, mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { cannot, oneLine } from "./user_error.ts";

/** Makes it, and what is missing above it; a UserError says why it cannot be used. */
export function makePrivateDirectory(path: string): void {
  try {
    make(path);
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    const remedy = "give another directory with --data";
    throw cannot("use data directory", path, { why: oneLine(error), remedy });
  }
}

function make(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory() === true) return;
  if (found !== undefined) throw new Error("it is no directory");
  if (dirname(path) !== path) make(dirname(path));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another process may have been quicker.
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}
