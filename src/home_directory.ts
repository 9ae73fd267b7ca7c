import { homedir } from "node:os";

/** "" for a system user that has neither HOME nor a usable line in the password file. */
export function homeDirectory(): string {
  try {
    const home = homedir();
    return home === "/nonexistent" ? "" : home;
  } catch {
    return "";
  }
}
