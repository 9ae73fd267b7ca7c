/**
 * Boot to the first line of user space: QEMU's translator as the peer, the monitor without and with
 * recording, and the replay, in turn in each round so that the machine's moods meet all alike.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { assetPath } from "../../src/assets.ts";
import type { Figure } from "./_figure.ts";
import { median, type TimedRun, timedRun } from "./_run.ts";

const firstLine = "bench: user space";
export const commandLine = "console=ttyS0 quiet cryptomgr.notests=1 nokaslr panic=-1";
const memoryMib = 256;

export interface BootInputs {
  readonly directory: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly rounds: number;
}

type Contender = "qemu" | "run" | "record" | "replay";

function qemuCommand(inputs: BootInputs): string[] {
  return [
    ...["qemu-system-x86_64", "-accel", "tcg,thread=single", "-M", "pc", "-smp", "1"],
    ...["-m", String(memoryMib), "-nodefaults", "-display", "none", "-serial", "stdio"],
    ...["-monitor", "none", "-no-reboot", "-kernel", inputs.kernel, "-initrd", inputs.initrd],
    ...["-append", commandLine],
  ];
}

/** The monitor's command for one verb; `extra` are more words of the kernel's command line. */
export function monitorCommand(
  verb: readonly string[],
  inputs: Pick<BootInputs, "kernel" | "initrd">,
  extra = "",
): string[] {
  return [
    ...[assetPath("vmm"), ...verb, "--kernel", inputs.kernel, "--initrd", inputs.initrd],
    ...["--mem", String(memoryMib), "--cmdline", `${commandLine} ${extra}`.trim()],
  ];
}

export async function benchBoot(inputs: BootInputs): Promise<Figure[]> {
  const log = join(inputs.directory, "boot.nmlog");
  const stats = join(inputs.directory, "boot.json");
  const commands: Record<Contender, string[]> = {
    qemu: qemuCommand(inputs),
    run: monitorCommand(["run"], inputs),
    record: [...monitorCommand(["record", log], inputs), "--stats", stats],
    replay: [assetPath("vmm"), "replay", log],
  };
  const runs: Record<Contender, TimedRun[]> = { qemu: [], run: [], record: [], replay: [] };
  const logBytes: number[] = [];
  for (let round = 0; round < inputs.rounds; round += 1) {
    for (const contender of Object.keys(commands) as Contender[]) {
      runs[contender].push(await timedRun(commands[contender], firstLine));
    }
    logBytes.push(JSON.parse(readFileSync(stats, "utf8")).log_bytes);
  }
  return bootFigures(runs, logBytes);
}

function bootFigures(runs: Record<Contender, TimedRun[]>, logBytes: number[]): Figure[] {
  const line = (contender: Contender) => runs[contender].map((run) => run.lineMs ?? Number.NaN);
  const wall = (contender: Contender) => runs[contender].map((run) => run.wallMs);
  const ms = (name: string, samples: number[]): Figure => ({
    name,
    unit: "ms",
    value: median(samples),
    bound: null,
    samples,
  });
  return [
    ms("boot to first user line, QEMU TCG, not recording", line("qemu")),
    ms("boot to first user line, not recording", line("run")),
    ms("boot to first user line, recording", line("record")),
    ms("whole recording of that boot", wall("record")),
    ms("whole replay of that boot", wall("replay")),
    ratio("boot recording / QEMU TCG", [line("record"), line("qemu")], 0.8),
    ratio("replay / recording", [wall("replay"), wall("record")], 1.0),
    ratio("recording / not recording", [wall("record"), wall("run")], 1.02),
    {
      name: "log of that boot",
      unit: "bytes",
      value: median(logBytes),
      bound: 64 * 1024,
      samples: logBytes,
    },
  ];
}

/** Median against median; the spread is that of the rounds' own ratios. */
function ratio(name: string, of: readonly [number[], number[]], bound: number): Figure {
  const [above, below] = of;
  const samples = above.map((value, index) => value / (below[index] ?? Number.NaN));
  return { name, unit: "ratio", value: median(above) / median(below), bound, samples };
}
