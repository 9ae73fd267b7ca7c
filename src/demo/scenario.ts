/**
 * The demonstration: three nodes on this machine, one guest that counts, and the node under it
 * killed twice. Says what it does while it does it, and ends with a verdict.
 */
import { Cluster, caughtUp, delay, type NodeProcess, type Program, until } from "./cluster.ts";
import { Follower } from "./follower.ts";
import { LineChecker, type LineVerdict, lineMs } from "./line_checker.ts";

const vmName = "demo";
const bootMsMax = 180_000;
const switchMsMax = 60_000;
const catchUpMsMax = 180_000;
const linesBefore = 5;
const linesAfter = 4;

export interface Switch {
  readonly killed: string;
  readonly next: string;
  /** How much later than its second the latest line around the kill came. */
  readonly pauseMs: number;
  /** From the kill until another node said that it is the primary. */
  readonly primaryMs: number;
}

export interface DemoVerdict extends LineVerdict {
  readonly switches: readonly Switch[];
  readonly logBytesPerSecond: number;
  readonly gapBytes: number;
  readonly good: boolean;
}

export interface DemoOptions {
  readonly program: Program;
  readonly say: (text: string) => void;
  readonly signal: AbortSignal;
  /** Further arguments for the VM, e.g. a smaller guest in tests. */
  readonly memoryMib?: number;
}

export async function runDemo(options: DemoOptions): Promise<DemoVerdict> {
  const cluster = new Cluster(options.program, { prefix: "node-mesh-demo-" });
  const checker = new LineChecker();
  let follower: Follower | null = null;
  const ended = new Promise<never>((_resolve, reject) => {
    const stop = (): void => reject(new Error("it was interrupted"));
    if (options.signal.aborted) stop();
    else options.signal.addEventListener("abort", stop, { once: true });
  });
  try {
    const run = play(cluster, {
      ...options,
      checker,
      onFollower: (started) => {
        follower = started;
      },
    });
    return await Promise.race([run, ended]);
  } finally {
    await (follower as Follower | null)?.stop();
    await cluster.close();
  }
}

interface Play extends DemoOptions {
  readonly checker: LineChecker;
  readonly onFollower: (follower: Follower) => void;
}

async function play(cluster: Cluster, options: Play): Promise<DemoVerdict> {
  const { say, checker } = options;
  for (const name of ["alpha", "beta", "gamma"]) cluster.add(name);
  say("starting three nodes: alpha, beta, gamma");
  await cluster.start();
  say("they are connected; starting a VM with 2 copies and 1 witness");
  const began = performance.now();
  const vm = await cluster.anyBut().client.create(
    {
      name: vmName,
      kernel: null,
      initrd: null,
      cmdline: null,
      memory_bytes: (options.memoryMib ?? 256) * 2 ** 20,
      copies: 2,
      witnesses: 1,
      engine: "auto",
    },
    { onProgress: (text) => say(`  ${text}`) },
  );
  const witness = vm.members.find((member) => member.role === "witness")?.node ?? "";
  say(`it runs on ${vm.primary_name}; its lines are followed through ${nameOf(cluster, witness)}`);
  const follower = new Follower({
    vm: vmName,
    choose: (failed) => (failed === null ? cluster.node(witness) : cluster.anyBut(failed.id)),
    onBytes: (bytes) => {
      const before = checker.last?.number;
      checker.push(bytes);
      if (checker.last !== null && checker.last.number !== before) {
        say(`  tick ${checker.last.number}`);
      }
    },
    onMove: (from, to) => say(`  the follower moves from ${from.name} to ${to.name}`),
  });
  options.onFollower(follower);
  await checker.more(1, { timeoutMs: bootMsMax });
  say(`the guest has booted, ${((performance.now() - began) / 1000).toFixed(1)} s after its start`);
  await checker.more(linesBefore - 1, { timeoutMs: switchMsMax });
  const first = await kill(cluster, options);
  await bringBack(cluster, { ...options, killed: first.node, follower });
  const second = await kill(cluster, options);
  const view = await cluster.node(witness).client.vm(vmName);
  const seconds = (performance.now() - began) / 1000;
  const verdict = checker.verdict();
  return {
    ...verdict,
    switches: [first.switched, second.switched],
    logBytesPerSecond: view.log_bytes / seconds,
    gapBytes: follower.gapBytes,
    good: verdict.lost + verdict.duplicated + verdict.outOfOrder + follower.gapBytes === 0,
  };
}

async function kill(
  cluster: Cluster,
  options: Play,
): Promise<{ readonly node: NodeProcess; readonly switched: Switch }> {
  const { say, checker } = options;
  let primary: string | null = null;
  await until("a primary", switchMsMax, async () => {
    primary = (await cluster.anyBut().client.vm(vmName)).primary;
    return primary !== null;
  });
  const node = cluster.node(primary ?? "");
  // At any moment between two lines, so that some runs catch a line on its way.
  await checker.more(1, { timeoutMs: switchMsMax });
  await delay(Math.random() * lineMs);
  say(`kill -9 ${node.name}, the primary's node`);
  const killedMs = performance.now();
  await node.kill();
  let next = "";
  let primaryMs = 0;
  const watcher = cluster.anyBut(node.id).client;
  const lines = checker.more(linesAfter, { timeoutMs: switchMsMax });
  lines.catch(() => {});
  await until("a new primary", switchMsMax, async () => {
    const view = await watcher.vm(vmName);
    if (view.primary === null || view.primary === node.id) return false;
    next = view.primary_name ?? "";
    primaryMs = performance.now() - killedMs;
    return true;
  });
  say(`  ${next} is the primary after ${primaryMs.toFixed(0)} ms`);
  await lines;
  const pauseMs = Math.max(0, checker.longestGapMs(killedMs) - lineMs);
  say(`  the guest's lines go on; the next came ${pauseMs.toFixed(0)} ms late`);
  return { node, switched: { killed: node.name, next, pauseMs, primaryMs } };
}

async function bringBack(
  cluster: Cluster,
  options: Play & { readonly killed: NodeProcess; readonly follower: Follower },
): Promise<void> {
  const { say, killed } = options;
  say(`starting ${killed.name} again`);
  const began = performance.now();
  await killed.start();
  const client = cluster.anyBut(killed.id).client;
  await caughtUp(client, { vm: vmName, node: killed.id, timeoutMs: catchUpMsMax });
  const seconds = (performance.now() - began) / 1000;
  say(
    `  ${killed.name} has replayed the whole log and follows again, after ${seconds.toFixed(1)} s`,
  );
}

function nameOf(cluster: Cluster, id: string): string {
  return cluster.nodes.find((node) => node.id === id)?.name ?? id;
}
