/**
 * The dashboard in a real Chromium on a cluster of three real nodes: signing in, making a VM,
 * typing into its console, and following it when the node of its primary is killed. Accessibility
 * is checked on each view. With NODE_MESH_SCREENSHOTS=DIR it leaves pictures of what it saw.
 */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "puppeteer-core";
import { Cluster, type NodeProcess } from "../../src/demo/cluster.ts";
import { program } from "../chaos/cluster.ts";
import { findBrowser, startBrowser } from "./browser.ts";

const waitMs = 40_000;
const axePath = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const executable = findBrowser();
const skip = executable === null ? "there is no Chromium; apt-get install chromium" : false;
const screens = {
  wide: { width: 1400, height: 1000 },
  small: { width: 390, height: 844 },
} as const;

let cluster: Cluster;
let browser: Browser;
let page: Page;
const complaints: string[] = [];

before(async () => {
  if (executable === null) return;
  cluster = new Cluster(program(), { prefix: "node-mesh-browser-" });
  for (const name of ["alpha", "beta", "gamma"]) {
    cluster.add(name, { options: ["--api", "127.0.0.1:0"] });
  }
  await Promise.all([
    cluster.start(),
    startBrowser(executable).then((started) => {
      browser = started;
    }),
  ]);
  page = await browser.newPage();
  await page.setViewport(screens.wide);
  page.on("console", (message) => {
    const text = message.text();
    const isNetwork = text.startsWith("Failed to load resource") || text.includes("ERR_");
    if (message.type() === "error" && !isNetwork) complaints.push(text);
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
});

after(async () => {
  if (executable === null) return;
  await browser.close();
  await cluster.close();
});

async function seen(text: string | RegExp): Promise<void> {
  const { source, flags } = typeof text === "string" ? new RegExp(escaped(text)) : text;
  try {
    const pattern = new RegExp(source, flags).toString();
    await page.waitForFunction(`${pattern}.test(document.body.innerText)`, { timeout: waitMs });
  } catch {
    const shown = await page.evaluate("document.body.innerText");
    throw new Error(`the page never showed ${text}; it shows:\n${shown}`);
  }
}

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** The page of a VM says that it runs there. */
async function runsOn(name: string): Promise<void> {
  const says = `document.querySelector(".where")?.textContent === ${JSON.stringify(`on ${name}`)}`;
  await page.waitForFunction(says, { timeout: waitMs });
}

async function click(selector: string, text: string): Promise<void> {
  const found = await page.waitForSelector(`${selector}::-p-text(${text})`, { timeout: waitMs });
  await found?.click();
}

const rows = 'document.querySelector(".xterm-rows")?.textContent ?? ""';

/** What the terminal shows: its rows are drawn as text. */
async function terminalText(): Promise<string> {
  return String(await page.evaluate(rows));
}

async function terminalShows(text: string): Promise<void> {
  try {
    const shows = `(${rows}).includes(${JSON.stringify(text)})`;
    await page.waitForFunction(shows, { timeout: waitMs });
  } catch {
    throw new Error(`the terminal never showed "${text}": ${await terminalText()}`);
  }
}

async function picture(name: string): Promise<void> {
  const directory = process.env["NODE_MESH_SCREENSHOTS"] ?? "";
  if (directory === "") return;
  await page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
}

/** In both colours and on a small screen. */
async function pictures(name: string): Promise<void> {
  if ((process.env["NODE_MESH_SCREENSHOTS"] ?? "") === "") return;
  for (const [size, viewport] of Object.entries(screens)) {
    await page.setViewport(viewport);
    for (const value of ["light", "dark"]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
      await new Promise((resolve) => setTimeout(resolve, 700));
      await picture(`${name}-${size}-${value}`);
    }
  }
  await page.setViewport(screens.wide);
  await page.emulateMediaFeatures([]);
}

/** No finding of axe in either colour. */
async function accessible(view: string): Promise<void> {
  for (const value of ["light", "dark"]) {
    await page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value },
      { name: "prefers-reduced-motion", value: "reduce" },
    ]);
    // By the debugger, which the page's policy does not bind.
    await page.evaluate(await readText(axePath));
    const { violations } = (await page.evaluate("axe.run()")) as AxeResult;
    const found = violations.flatMap(({ id, help, nodes }) =>
      nodes.map(({ html, failureSummary }) => `${id}: ${help}: ${html} ${failureSummary}`),
    );
    assert.deepEqual(found, [], `${view}, ${value}`);
  }
  await page.emulateMediaFeatures([]);
}

interface AxeResult {
  readonly violations: readonly {
    readonly id: string;
    readonly help: string;
    readonly nodes: readonly { readonly html: string; readonly failureSummary: string }[];
  }[];
}

async function readText(path: string): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  return await readFile(path, "utf8");
}

function first(): NodeProcess {
  return cluster.nodes[0] as NodeProcess;
}

test("a browser without a session is told how to get one", { skip }, async () => {
  const { api } = await first().client.status();
  await page.goto(`${api}/`);
  await seen("Sign in to node-mesh");
  await accessible("signing in");
  await pictures("sign-in");
  await page.type("input", "nmt_wrong");
  await click("button", "Sign in");
  await seen("that is not this node's token");
});

test("a link signs in, and the mesh is shown", { skip }, async () => {
  const { url } = await first().client.loginLink();
  await page.goto(url);
  await seen(/3 of 3 nodes connected/);
  await seen("There is no VM yet.");
  await seen(/gamma\s+connected/);
  assert.doesNotMatch(page.url(), /code|token/);
  await accessible("the empty overview");
  await pictures("empty");
});

test("a VM is made, and its console takes what is typed", { skip }, async () => {
  await click("button", "New VM");
  await page.waitForSelector("dialog[open]");
  await accessible("the dialog");
  await picture("create");
  await page.type('input[name="name"]', "Bad Name");
  await click("dialog button", "Start");
  assert.ok(await page.$("dialog[open] input:invalid"));
  await page.evaluate("document.querySelector('input[name=name]').value = ''");
  await page.type('input[name="name"]', "first");
  await click("dialog button", "Start");
  await seen(/first\s+●\s+running/);
  await terminalShows("tick 3");
  await page.click(".console-place");
  await page.keyboard.type("echo hel''lo\n");
  await terminalShows("hello");
  await accessible("the page of a VM");
  await pictures("vm");
});

test("a VM is moved, and goes on", { skip }, async () => {
  const before = await first().client.vm("first");
  const backup = before.members.find(
    ({ node, role }) => node !== before.primary && role === "replica",
  );
  await click(".vm-head button", "Move");
  await page.waitForSelector("dialog[open]");
  await accessible("the dialog of a move");
  await picture("move");
  await page.click(`dialog input[value="${backup?.node}"]`);
  await click("dialog button", "Move");
  await runsOn(backup?.name ?? "");
  assert.equal((await first().client.vm("first")).primary, backup?.node);
});

test("when the primary's node is killed, the page follows", { skip }, async () => {
  const vm = await first().client.vm("first");
  let primary = cluster.node(vm.primary ?? "");
  if (primary === first()) {
    // This page is the first node's: look from another one.
    const { url } = await cluster.anyBut(primary.id).client.loginLink();
    await page.goto(`${url}`);
    await seen(/3 of 3 nodes connected/);
    await page.goto(`${new URL(url).origin}/#/vm/${vm.id}`);
    await terminalShows("tick");
  }
  primary = cluster.node(vm.primary ?? "");
  await primary.kill();
  await seen(/first runs on after [\d.]+ m?s/);
  await picture("switched");
  await accessible("after a switch");
  const now = await cluster.anyBut(primary.id).client.vm("first");
  await runsOn(now.primary_name ?? "");
  await terminalShows("tick");
  await page.click(".console-place");
  await page.keyboard.type("echo aga''in\n");
  await terminalShows("again");
  await pictures("after");
  await page.goto(`${new URL(page.url()).origin}/#/`);
  await seen(/2 of 3 nodes connected/);
  await pictures("overview");
  await primary.start();
  await seen(/3 of 3 nodes connected/);
});

test("a VM is removed, by keyboard alone", { skip }, async () => {
  await page.click(".vm-link");
  await page.waitForSelector(".vm-head");
  await page.focus(".vm-head button.danger");
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog[open]");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await seen("There is no VM yet.");
  assert.deepEqual(await cluster.anyBut().client.vms(), []);
});

test("the page's own policy is never broken, and nothing fails unseen", { skip }, () => {
  assert.deepEqual(complaints, []);
});
