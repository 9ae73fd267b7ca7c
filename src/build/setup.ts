/**
 * Set-up: whatever building and testing need beyond the npm packages. Done again in a moment when
 * all is there.
 */
import { progress, script } from "./_command.ts";
import { debianPackages, ensurePackages } from "./debian_packages.ts";
import { ensureFetched } from "./fetched.ts";

export async function setUp(): Promise<void> {
  await ensurePackages(Object.keys(debianPackages));
  ensureFetched();
}

if (import.meta.main) {
  await script(async () => {
    await setUp();
    progress("setup", "everything that building needs is there");
  });
}
