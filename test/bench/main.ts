/**
 * `npm run bench`: figures of this machine, peers and project in turn, as a table and as JSON.
 *   --rounds N    rounds of each timed comparison (default 5)
 *   --only NAME   boot, idle, mesh or api (may be given several times)
 *   --json FILE   where the JSON goes (default dist/bench.json)
 * Exit status 1 when a bound was missed.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeCpio } from "../../src/build/cpio.ts";
import { busyboxEntries, debianKernel, sourceEntries } from "../../src/build/guest.ts";
import { paths } from "../../src/build/paths.ts";
import { benchApi } from "./_api.ts";
import { type BootInputs, benchBoot } from "./_boot.ts";
import { type Figure, figureTable, withinBound } from "./_figure.ts";
import { benchIdle } from "./_idle.ts";
import { benchMesh } from "./_mesh.ts";

const parts = { boot: benchBoot, idle: benchIdle, mesh: benchMesh, api: benchApi } as const;

type PartName = keyof typeof parts;

interface Options {
  readonly rounds: number;
  readonly only: readonly PartName[];
  readonly json: string;
}

function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: "string", default: "5" },
      only: { type: "string", multiple: true, default: Object.keys(parts) },
      json: { type: "string", default: join(paths.dist, "bench.json") },
    },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
    throw new RangeError(`Cannot run "${values.rounds}" rounds: give a number from 1 to 1000`);
  }
  for (const name of values.only) {
    if (!Object.hasOwn(parts, name)) {
      throw new RangeError(
        `Cannot measure "${name}": it is not known; there are ${Object.keys(parts).join(", ")}`,
      );
    }
  }
  return { rounds, only: values.only as PartName[], json: values.json };
}

async function measure(options: Options, inputs: BootInputs): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const name of options.only) {
    process.stderr.write(`bench: measuring ${name}\n`);
    figures.push(...(await parts[name](inputs)));
  }
  return figures;
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  const directory = mkdtempSync(join(tmpdir(), "node-mesh-bench-"));
  try {
    const initrd = join(directory, "initrd");
    const own = sourceEntries(join(import.meta.dirname, "guest"), ["init"]);
    writeFileSync(initrd, writeCpio([...busyboxEntries(), ...own]));
    const inputs = { directory, kernel: debianKernel(), initrd, rounds: options.rounds };
    const figures = await measure(options, inputs);
    const machine = {
      processor: cpus()[0]?.model ?? "unknown",
      cores: availableParallelism(),
      kernel: release(),
      guestKernel: kernelVersion(inputs.kernel),
    };
    mkdirSync(paths.dist, { recursive: true });
    writeFileSync(options.json, `${JSON.stringify({ machine, figures }, null, 2)}\n`);
    process.stdout.write(`${figureTable(figures)}\nwritten to ${options.json}\n`);
    if (!figures.every(withinBound)) process.exitCode = 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The version string inside a bzImage, by the offset in its header. */
function kernelVersion(file: string): string {
  const image = readFileSync(file);
  const at = image.readUInt16LE(0x20e) + 0x200;
  return image.toString("latin1", at, image.indexOf(0, at)).split(" ")[0] ?? "unknown";
}

if (import.meta.main) {
  await main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
