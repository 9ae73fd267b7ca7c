/** `node-mesh top`: nodes and VMs at a glance; a plain table where no terminal is. */
import { setTimeout as pause } from "node:timers/promises";
import type { Command } from "commander";
import type { ApiClient } from "../api/client.ts";
import type { NodeView, VmView } from "../api/schemas.ts";
import { action, type CommonOptions, clientOf, interruption, withJson } from "./context.ts";
import { print, printJson, size, table } from "./output.ts";
import { Screen } from "./screen.ts";

/** What is asked of the node at once. */
interface Picture {
  readonly atMs: number;
  readonly nodes: readonly NodeView[];
  readonly vms: readonly VmView[];
}

interface TopOptions extends CommonOptions {
  readonly interval: string;
}

const nodeHead = ["NODE", "STATE", "LOAD", "CPUS", "MEMORY FREE", "VMS", "RTT"];
const vmHead = ["VM", "STATE", "PRIMARY", "TERM", "COPIES", "LAG", "LOG", "COMMIT", "CONSOLE"];
const barCells = 10;

export function addTop(program: Command): void {
  withJson(program.command("top"))
    .option("--interval <seconds>", "between two looks", "1")
    .summary("watch nodes and VMs in the terminal")
    .description("Shows nodes and VMs, kept up to date; q ends it. Into a file or a pipe: once.")
    .action(
      action(async (options: TopOptions) => {
        const client = clientOf(options);
        const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
        if (options.json === true) printJson(await look(client));
        else if (terminal) await watch(client, Math.max(0.2, Number(options.interval) || 1));
        else print(render(await look(client), null));
      }),
    );
}

async function look(client: ApiClient): Promise<Picture> {
  const [nodes, vms] = await Promise.all([client.nodes(), client.vms()]);
  return { atMs: Date.now(), nodes, vms };
}

async function watch(client: ApiClient, seconds: number): Promise<void> {
  const left = new AbortController();
  const signal = AbortSignal.any([interruption(), left.signal]);
  const screen = new Screen(process.stdin, process.stdout, {
    onKey: (key) => {
      if (key === "q" || key === "\x03" || key === "\x1b") left.abort();
    },
  });
  try {
    let before: Picture | null = null;
    while (!signal.aborted) {
      try {
        const picture = await look(client);
        screen.show(`${title(picture)}\n\n${render(picture, before)}`);
        before = picture;
      } catch (error) {
        screen.show(`${(error as Error).message}\n\ntrying again; q ends it\n`);
      }
      await pause(seconds * 1000, undefined, { signal }).catch(() => {});
    }
  } finally {
    screen.close();
  }
}

function title({ atMs, nodes, vms }: Picture): string {
  const up = nodes.filter((node) => node.connected).length;
  const running = vms.filter((vm) => vm.state === "running").length;
  const time = new Date(atMs).toTimeString().slice(0, 8);
  return (
    `node-mesh  ${time}   ${up} of ${nodes.length} nodes connected   ` +
    `${running} of ${vms.length} VMs running   q ends it`
  );
}

/** Rates need the picture before. */
function render(picture: Picture, before: Picture | null): string {
  const nodes = table(nodeHead, picture.nodes.map(nodeRow));
  if (picture.vms.length === 0) return `${nodes}\nno VM yet; start one: node-mesh vm run NAME\n`;
  const rows = picture.vms.map((vm) => vmRow(vm, { picture, before }));
  return `${nodes}\n${table(vmHead, rows)}`;
}

function nodeRow(node: NodeView): string[] {
  const known = node.cpus > 0;
  return [
    node.name,
    node.self ? "this node" : node.connected ? "connected" : "away",
    known ? bar(node.load_percent) : "-",
    known ? String(node.cpus) : "-",
    known ? `${size(node.memory_free_bytes)} of ${size(node.memory_bytes)}` : "-",
    String(node.vms),
    node.rtt_ms === null ? "-" : `${node.rtt_ms.toFixed(1)} ms`,
  ];
}

function vmRow(
  vm: VmView,
  { picture, before }: { picture: Picture; before: Picture | null },
): string[] {
  const old = before?.vms.find(({ id }) => id === vm.id);
  const seconds = before === null ? 0 : (picture.atMs - before.atMs) / 1000;
  const rate = (now: number, then: number | undefined): string =>
    then === undefined || seconds <= 0 || now < then ? "" : ` +${size((now - then) / seconds)}/s`;
  return [
    vm.name,
    vm.state,
    vm.primary_name ?? "-",
    String(vm.term),
    `${vm.copies_ready} of ${vm.copies}`,
    String(lagOf(vm)),
    `${size(vm.log_bytes)}${rate(vm.log_bytes, old?.log_bytes)}`,
    vm.commit_latency_ms === null ? "-" : `${vm.commit_latency_ms.toFixed(1)} ms`,
    `${size(vm.console_bytes)}${rate(vm.console_bytes, old?.console_bytes)}`,
  ];
}

/** Chunks by which the slowest copy that answers is behind. */
function lagOf(vm: VmView): number {
  const behind = vm.members
    .filter((member) => member.role === "replica" && member.state !== "unreachable")
    .map((member) => vm.chunks - member.chunks);
  return Math.max(0, ...behind);
}

function bar(percent: number): string {
  const full = Math.min(barCells, Math.round((percent / 100) * barCells));
  return `${"#".repeat(full)}${".".repeat(barCells - full)} ${percent}%`;
}
