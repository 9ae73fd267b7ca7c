/** `node-mesh vm run`: makes a VM and waits until it runs. */
import { resolve } from "node:path";
import type { Command } from "commander";
import {
  action,
  type CommonOptions,
  clientOf,
  interruption,
  wholeNumber,
  withJson,
} from "./context.ts";
import { print, printJson } from "./output.ts";
import { startProgress } from "./progress.ts";

interface RunOptions extends CommonOptions {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly cmdline?: string;
  readonly mem: number;
  readonly copies: number;
  readonly witnesses: number;
  readonly engine: "interp" | "kvm" | "auto";
  readonly net?: boolean;
  readonly rng?: boolean;
}

const members = { least: 0, most: 64 };

export function addVmRun(vm: Command): void {
  withJson(vm.command("run"))
    .argument("<name>", "1 to 40 of a-z, 0-9 and -")
    .option("--kernel <file>", "a Linux kernel (bzImage); without it the default guest is run")
    .option("--initrd <file>", "its initial RAM disk")
    .option("--cmdline <text>", "its command line")
    .option("--mem <MiB>", "its memory", wholeNumber("--mem", { least: 1, most: 1 << 30 }), 256)
    .option("--copies <n>", "nodes that run it", wholeNumber("--copies", members), 2)
    .option(
      "--witnesses <n>",
      "nodes that vote, but run nothing",
      wholeNumber("--witnesses", members),
      1,
    )
    .option("--engine <engine>", "interp, kvm or auto", "auto")
    .option("--net", "with a network card (virtio)")
    .option("--rng", "with an entropy device (virtio)")
    .summary("start a new VM")
    .description(
      "Starts a VM on nodes of the mesh and waits until it runs. With 2 copies and 1 witness it " +
        "survives the loss of any one of its nodes.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  node-mesh vm run first\n  node-mesh vm run first --copies 1 --witnesses 0\n" +
        "  node-mesh vm run web --kernel vmlinuz --initrd initrd.img --mem 512",
    )
    .action(action(runVm));
}

async function runVm(name: string, options: RunOptions): Promise<void> {
  const progress = startProgress();
  const signal = interruption();
  const pathOf = (path: string | undefined): string | null =>
    path === undefined ? null : resolve(path);
  try {
    const vm = await clientOf(options).create(
      {
        name,
        kernel: pathOf(options.kernel),
        initrd: pathOf(options.initrd),
        cmdline: options.cmdline ?? null,
        memory_bytes: options.mem * 2 ** 20,
        copies: options.copies,
        witnesses: options.witnesses,
        engine: options.engine,
        net: options.net === true,
        rng: options.rng === true,
      },
      { onProgress: (text) => progress.say(text), signal },
    );
    progress.end();
    if (options.json === true) {
      printJson(vm);
      return;
    }
    const others = vm.members
      .filter((member) => member.node !== vm.primary)
      .map((member) => `${member.name} (${member.role})`);
    const beside = others.length === 0 ? "" : `; also on ${others.join(", ")}`;
    print(`VM ${vm.name} runs on ${vm.primary_name ?? "?"}${beside}\n`);
    print(`see: node-mesh vm logs -f ${vm.name}, node-mesh vm console ${vm.name}\n`);
  } finally {
    progress.end();
    if (signal.aborted) process.exitCode = 130;
  }
}
