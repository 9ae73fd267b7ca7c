/** A real Chromium, as Debian has it, without a window. */
import { existsSync } from "node:fs";
import puppeteer, { type Browser } from "puppeteer-core";

const places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Path of the browser; null where there is none. */
export function findBrowser(): string | null {
  const given = process.env["NODE_MESH_CHROMIUM"] ?? "";
  return [given, ...places].find((path) => path !== "" && existsSync(path)) ?? null;
}

export async function startBrowser(executablePath: string): Promise<Browser> {
  return await puppeteer.launch({
    executablePath,
    headless: true,
    // As root there is no sandbox to be had; the pages are this project's own.
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"],
  });
}
