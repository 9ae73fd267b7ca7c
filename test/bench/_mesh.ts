/**
 * Three nodes of the built binary on loopback and a guest that prints fifty lines a second: how
 * long nothing comes after kill -9 of the primary's node, and what commit adds to output.
 */
import { setTimeout as wait } from "node:timers/promises";
import { paths } from "../../src/build/paths.ts";
import { Cluster, caughtUp, type NodeProcess, until } from "../../src/demo/cluster.ts";
import { Follower } from "../../src/demo/follower.ts";
import { LineChecker } from "../../src/demo/line_checker.ts";
import { type BootInputs, commandLine } from "./_boot.ts";
import type { Figure } from "./_figure.ts";
import { processorTicks, ticksPerSecond } from "./_idle.ts";
import { median } from "./_run.ts";

const vm = "bench";
const waitMsMax = 120_000;
const linesBetween = 50;
const steadyMs = 10_000;

interface Running {
  readonly cluster: Cluster;
  readonly checker: LineChecker;
  readonly follower: Follower;
}

export async function benchMesh(inputs: BootInputs): Promise<Figure[]> {
  const cluster = new Cluster({ file: paths.binary, args: [] }, { prefix: "node-mesh-bench-" });
  let follower: Follower | null = null;
  try {
    for (const name of ["one", "two", "three"]) cluster.add(name);
    await cluster.start();
    const checker = new LineChecker();
    const witness = await createVm(cluster, inputs);
    follower = new Follower({
      vm,
      choose: (failed) => (failed === null ? witness : cluster.anyBut(failed.id)),
      onBytes: (bytes) => checker.push(bytes),
    });
    const running = { cluster, checker, follower };
    await checker.more(linesBetween, { timeoutMs: waitMsMax });
    const steady = await steadyFigures(running);
    const pauses: number[] = [];
    for (let round = 0; round < inputs.rounds; round += 1) pauses.push(await switchMs(running));
    return [...steady, ...switchFigures(pauses, checker)];
  } finally {
    await follower?.stop();
    await cluster.close();
  }
}

/** Answers the node that keeps the log only: it stays alive all the time. */
async function createVm(cluster: Cluster, inputs: BootInputs): Promise<NodeProcess> {
  const view = await cluster.anyBut().client.create(
    {
      name: vm,
      kernel: inputs.kernel,
      initrd: inputs.initrd,
      cmdline: `${commandLine} bench=ticks`,
      memory_bytes: 256 * 2 ** 20,
      copies: 2,
      witnesses: 1,
      engine: "auto",
    },
    { onProgress: () => {} },
  );
  return cluster.node(view.members.find((member) => member.role === "witness")?.node ?? "");
}

async function primaryOf(cluster: Cluster): Promise<NodeProcess> {
  let id = "";
  await until("a primary", waitMsMax, async () => {
    const view = await cluster.anyBut().client.vm(vm);
    id = view.primary ?? "";
    return view.state === "running" && id !== "";
  });
  return cluster.node(id);
}

async function steadyFigures({ cluster }: Running): Promise<Figure[]> {
  const primary = await primaryOf(cluster);
  const before = await primary.client.vm(vm);
  const ticksBefore = processorTicks(primary.pid ?? 0);
  await wait(steadyMs);
  const seconds = steadyMs / 1000;
  const ticks = processorTicks(primary.pid ?? 0) - ticksBefore;
  const after = await primary.client.vm(vm);
  // By the monitor's own clock, hand-over to the node and back included.
  const delayMs = after.output_delay_ms ?? Number.NaN;
  const commitMs = after.commit_latency_ms ?? Number.NaN;
  const logRate = (after.log_bytes - before.log_bytes) / seconds;
  return [
    { ...one("output commit, median", "ms", commitMs), bound: 2 },
    one("a guest's first byte until it has left, median", "ms", delayMs),
    { ...one("log while printing 50 lines a second", "bytes/s", logRate), bound: null },
    one("node process beside it", "% of a core", (ticks / ticksPerSecond / seconds) * 100),
  ];
}

function one(name: string, unit: Figure["unit"], value: number): Figure {
  return { name, unit, value, bound: null, samples: [value] };
}

/** Kills the primary's node, waits for lines, brings the node back; the longest silence. */
async function switchMs({ cluster, checker }: Running): Promise<number> {
  const primary = await primaryOf(cluster);
  const killedMs = performance.now();
  await primary.kill();
  await checker.more(linesBetween, { timeoutMs: waitMsMax });
  const pauseMs = checker.longestGapMs(killedMs);
  await primary.start();
  const client = cluster.anyBut(primary.id).client;
  await caughtUp(client, { vm, node: primary.id, timeoutMs: waitMsMax });
  return pauseMs;
}

function switchFigures(pauses: readonly number[], checker: LineChecker): Figure[] {
  const verdict = checker.verdict();
  const wrong = verdict.lost + verdict.duplicated + verdict.outOfOrder;
  return [
    {
      name: "switch after kill -9, median",
      unit: "ms",
      value: median(pauses),
      bound: 500,
      samples: pauses,
    },
    {
      ...one("switch after kill -9, worst", "ms", Math.max(...pauses)),
      note: `of ${pauses.length}`,
    },
    {
      ...one("lines lost, repeated or out of order", "lines", wrong),
      bound: 0,
      note: `of ${verdict.seen}`,
    },
  ];
}
