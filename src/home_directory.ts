/** The user's home directory, where there is one. */
import { homedir } from "node:os";

/** Empty for a system user with neither HOME nor a directory in the password file. */
export function homeDirectory(): string {
  try {
    const home = homedir();
    return home === "/nonexistent" ? "" : home;
  } catch {
    return "";
  }
}
