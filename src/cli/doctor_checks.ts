/** The examinations of `doctor`. Each looks at one thing, changes nothing, and never throws. */
import { execFile } from "node:child_process";
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { ApiClient } from "../api/client.ts";
import { assetPath } from "../assets.ts";
import { oneLine } from "../user_error.ts";
import { size } from "./output.ts";

export interface Finding {
  readonly what: string;
  readonly state: "good" | "note" | "bad";
  readonly found: string;
  readonly remedy?: string;
}

const probeMs = 10_000;
const syncCount = 20;
/** Each commit waits for one of these on every member. */
const syncMsGood = 10;
const memoryBytesLeast = 512 * 2 ** 20;
const diskBytesLeast = 1024 ** 3;
const defaultPort = 4001;

export async function examine(dataDir: string): Promise<Finding[]> {
  const checks: ((dataDir: string) => Finding | Finding[] | Promise<Finding | Finding[]>)[] = [
    kernel,
    monitor,
    memory,
    disk,
    clock,
    cgroup,
    port,
    node,
  ];
  const findings: Finding[] = [];
  for (const check of checks) {
    try {
      findings.push(...[await check(dataDir)].flat());
    } catch (error) {
      findings.push({ what: check.name, state: "note", found: `not known: ${oneLine(error)}` });
    }
  }
  return findings;
}

function kernel(): Finding {
  const found = `Linux ${release()}, ${cpus().length} CPUs (${cpus()[0]?.model ?? "unknown"})`;
  return { what: "kernel", state: "good", found };
}

interface Probe {
  readonly cpu: { readonly usable: boolean; readonly missing: string };
  readonly engines: readonly string[];
  readonly engine: string;
  readonly engine_why: string;
  readonly kvm: {
    readonly present: boolean;
    readonly permitted: boolean;
    readonly api_version: number | null;
    readonly kind: string | null;
    readonly why: string;
  };
}

/** The monitor looks for itself: what it sees is what a VM will have. */
async function monitor(): Promise<Finding[]> {
  let probe: Probe;
  try {
    const run = promisify(execFile);
    const { stdout } = await run(assetPath("vmm"), ["probe"], { timeout: probeMs });
    probe = JSON.parse(stdout) as Probe;
  } catch (error) {
    const remedy = "install the program again, in a place from where programs may run";
    return [{ what: "monitor", state: "bad", found: oneLine(error), remedy }];
  }
  const engines = {
    what: "engines",
    state: "good",
    found: `${probe.engines.join(", ")}; VMs get ${probe.engine}: ${probe.engine_why}`,
  } as const;
  const cpu: Finding = probe.cpu.usable
    ? { what: "cpu", state: "good", found: "has all that guests are shown" }
    : {
        what: "cpu",
        state: "bad",
        found: `lacks ${probe.cpu.missing}`,
        remedy: "use a machine with x86-64-v2; this one can be a witness only",
      };
  return [cpu, kvm(probe), engines];
}

function kvm({ kvm: found }: Probe): Finding {
  if (found.kind !== null) {
    const text = `/dev/kvm works: kind ${found.kind}, API version ${found.api_version}`;
    return { what: "kvm", state: "good", found: text };
  }
  const remedy = !found.present
    ? "enable virtualisation in the firmware and load the kvm module; VMs run without it, slower"
    : !found.permitted
      ? "add this user to the group that owns /dev/kvm; VMs run without it, slower"
      : "see the kernel's messages; VMs run without it, slower";
  return { what: "kvm", state: "note", found: found.why, remedy };
}

function memory(): Finding {
  const text = readFileSync("/proc/meminfo", "latin1");
  const available = Number(/^MemAvailable:\s+(\d+)/m.exec(text)?.[1] ?? 0) * 1024;
  const found = `${size(available)} available of ${size(totalmem())}`;
  if (available >= memoryBytesLeast) return { what: "memory", state: "good", found };
  const remedy = "free some: a guest takes 256 MiB by default";
  return { what: "memory", state: "bad", found, remedy };
}

/** The nearest directory that exists: the node's own may not be there yet. */
function existing(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : existing(dirname(path));
}

function disk(dataDir: string): Finding[] {
  const place = existing(dataDir);
  const directory = mkdtempSync(join(place, ".doctor-"));
  let worstMs = 0;
  let totalMs = 0;
  try {
    const file = openSync(join(directory, "sync"), "w");
    for (let index = 0; index < syncCount; index += 1) {
      writeSync(file, Buffer.alloc(4096, index));
      const began = performance.now();
      fdatasyncSync(file);
      const tookMs = performance.now() - began;
      worstMs = Math.max(worstMs, tookMs);
      totalMs += tookMs;
    }
    closeSync(file);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  const meanMs = totalMs / syncCount;
  const found = `fsync takes ${meanMs.toFixed(2)} ms (worst ${worstMs.toFixed(2)} ms) in ${place}`;
  const remedy = "put --data on a faster disk: each output of a VM waits for it";
  const sync: Finding =
    meanMs <= syncMsGood
      ? { what: "disk", state: "good", found }
      : { what: "disk", state: "note", found, remedy };
  const { bavail, bsize } = statfsSync(place);
  const free = bavail * bsize;
  const space: Finding =
    free >= diskBytesLeast
      ? { what: "space", state: "good", found: `${size(free)} free in ${place}` }
      : {
          what: "space",
          state: "bad",
          found: `${size(free)} free in ${place}`,
          remedy: "free some, or put --data elsewhere",
        };
  return [sync, space];
}

function clock(): Finding {
  const source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  const name = existsSync(source) ? readFileSync(source, "latin1").trim() : "unknown";
  const year = new Date().getUTCFullYear();
  const found = `source ${name}, ${new Date().toISOString()}`;
  if (year >= 2024) return { what: "clock", state: "good", found };
  const remedy = "set the clock: new VMs start with this time";
  return { what: "clock", state: "note", found, remedy };
}

function cgroup(): Finding {
  const unified = existsSync("/sys/fs/cgroup/cgroup.controllers");
  const found = unified ? "version 2" : "no unified hierarchy";
  return unified
    ? { what: "cgroup", state: "good", found }
    : { what: "cgroup", state: "note", found, remedy: "limits of VMs by cgroup are not possible" };
}

async function port(): Promise<Finding> {
  const used = await new Promise<string | null>((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen(defaultPort, () => server.close(() => resolve(null)));
  });
  if (used === null) {
    return { what: "port", state: "good", found: `${defaultPort} is free` };
  }
  const remedy = "if that is no node of yours, use another one with --listen";
  return { what: "port", state: "note", found: `${defaultPort} is not free (${used})`, remedy };
}

async function node(dataDir: string): Promise<Finding> {
  try {
    const status = await new ApiClient(dataDir).status();
    const found = `${status.name} is up, ${status.peers_connected} peers connected`;
    return { what: "node", state: "good", found };
  } catch {
    const found = `none is running on ${dataDir === "" ? tmpdir() : dataDir}`;
    return { what: "node", state: "note", found, remedy: "start it: node-mesh up" };
  }
}
