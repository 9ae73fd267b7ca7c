/**
 * A node with fifty idle VMs: how long reads of its API take, and how soon its dashboard can be
 * used in a browser that has never seen it.
 */
import { dirname, join } from "node:path";
import { paths } from "../../src/build/paths.ts";
import { Cluster, type NodeProcess } from "../../src/demo/cluster.ts";
import { findBrowser, startBrowser } from "../browser/browser.ts";
import type { BootInputs } from "./_boot.ts";
import type { Figure } from "./_figure.ts";
import { median } from "./_run.ts";

const vmCount = 50;
const readsOfEach = 150;
const readMsMax = 20;
const interactiveMsMax = 1_000;

export async function benchApi(inputs: BootInputs): Promise<Figure[]> {
  const cluster = new Cluster({ file: paths.binary, args: [] }, { prefix: "node-mesh-bench-" });
  try {
    const node = cluster.add("solo", { options: ["--api", "127.0.0.1:0"] });
    await cluster.start();
    for (let index = 0; index < vmCount; index += 1) await createIdle(node, `vm-${index}`);
    const figures = await reads(node);
    const browser = findBrowser();
    if (browser === null) return figures;
    return [...figures, await interactive(node, { browser, rounds: inputs.rounds })];
  } finally {
    await cluster.close();
  }
}

/** A guest that waits for input and does nothing else. */
async function createIdle(node: NodeProcess, name: string): Promise<void> {
  await node.client.create(
    {
      name,
      kernel: join(paths.nativeRelease, "test/guests/echo.elf"),
      initrd: null,
      cmdline: null,
      memory_bytes: 64 * 2 ** 20,
      copies: 1,
      witnesses: 0,
      engine: "auto",
    },
    { onProgress: () => {} },
  );
}

/** One after the other, over TCP, by a session of a browser's kind. */
async function reads(node: NodeProcess): Promise<Figure[]> {
  const { api } = await node.client.status();
  const { url } = await node.client.loginLink();
  const login = await fetch(url, { redirect: "manual" });
  const cookie = (login.headers.get("set-cookie") ?? "").split(";")[0] ?? "";
  const samples: number[] = [];
  for (const path of ["/v1/status", "/v1/nodes", "/v1/vms", "/v1/vms/vm-7"]) {
    for (let read = 0; read < readsOfEach; read += 1) {
      const began = performance.now();
      const response = await fetch(`${api}${path}`, { headers: { cookie } });
      await response.arrayBuffer();
      samples.push(performance.now() - began);
      if (!response.ok) throw new Error(`${path} answered with ${response.status}`);
      // Within what one address may ask for.
      await new Promise((resolve) => setTimeout(resolve, 17));
    }
  }
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN;
  const name = (part: string) => `API read with ${vmCount} VMs, ${part}`;
  return [
    { name: name("median"), unit: "ms", value: at(0.5), bound: null, samples: [] },
    { name: name("99 %"), unit: "ms", value: at(0.99), bound: readMsMax, samples },
  ];
}

/** From the navigation until the VMs can be clicked. */
async function interactive(
  node: NodeProcess,
  options: { readonly browser: string; readonly rounds: number },
): Promise<Figure> {
  const browser = await startBrowser(options.browser);
  const samples: number[] = [];
  try {
    for (let round = 0; round < options.rounds; round += 1) {
      const context = await browser.createBrowserContext();
      const page = await context.newPage();
      const { url } = await node.client.loginLink();
      await page.goto(url);
      await page.setCacheEnabled(false);
      await page.goto(dirname(url));
      await page.waitForSelector(".vm-link");
      samples.push(Number(await page.evaluate("performance.now()")));
      await context.close();
    }
  } finally {
    await browser.close();
  }
  return {
    name: `dashboard with ${vmCount} VMs can be used, median`,
    unit: "ms",
    value: median(samples),
    bound: interactiveMsMax,
    samples,
  };
}
