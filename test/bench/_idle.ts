/** What a guest that does nothing costs while it is recorded: log bytes, memory, processor. */
import { spawn } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { type BootInputs, monitorCommand } from "./_boot.ts";
import type { Figure } from "./_figure.ts";

/** The boot and what follows it have quietened down by then. */
const settleMs = 6_000;
const measureMs = 20_000;
const memoryBoundMib = 30;
/** Clock ticks a second in /proc: fixed for user space on x86-64. */
export const ticksPerSecond = 100;

export async function benchIdle(inputs: BootInputs): Promise<Figure[]> {
  const log = join(inputs.directory, "idle.nmlog");
  const command = monitorCommand(["record", log], inputs, "bench=idle");
  const child = spawn(command[0] ?? "", command.slice(1), { stdio: ["pipe", "ignore", "ignore"] });
  try {
    await wait(settleMs);
    const pid = child.pid ?? 0;
    const bytesBefore = statSync(log).size;
    const ticksBefore = processorTicks(pid);
    await wait(measureMs);
    const seconds = measureMs / 1000;
    const busy = (processorTicks(pid) - ticksBefore) / ticksPerSecond / seconds;
    return [
      figure("log of an idle guest", "bytes/s", (statSync(log).size - bytesBefore) / seconds, 1024),
      figure("processor of an idle copy", "% of a core", busy * 100, 2),
      figure("memory of a copy beyond guest RAM in use", "MiB", ownMemoryMib(pid), memoryBoundMib),
    ];
  } finally {
    child.kill("SIGKILL");
  }
}

function figure(name: string, unit: Figure["unit"], value: number, bound: number): Figure {
  return { name, unit, value, bound, samples: [value] };
}

/** User and system time of a process; its name in the line may hold spaces. */
export function processorTicks(pid: number): number {
  const line = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/** Proportional memory of all mappings but the largest anonymous one, which is the guest's RAM. */
function ownMemoryMib(pid: number): number {
  const maps = readFileSync(`/proc/${pid}/smaps`, "latin1").split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
  const kib = (map: string, field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(map)?.[1] ?? 0);
  const guest = maps.reduce((best, map) => (kib(map, "Size") > kib(best, "Size") ? map : best));
  const total = maps.reduce((sum, map) => sum + kib(map, "Pss"), 0);
  return (total - kib(guest, "Pss")) / 1024;
}
