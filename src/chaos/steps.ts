/** What a scenario can do, sentence by sentence. Each names the nodes and VMs that it is about. */
import type { NodeProcess } from "../demo/cluster.ts";
import type { Need } from "./faults.ts";
import { type Sentence, sentence, type Who } from "./grammar.ts";
import type { World } from "./world.ts";

export interface Step {
  readonly who: readonly Who[];
  readonly vms: readonly string[];
  readonly needs: readonly Need[];
  run(world: World): Promise<void>;
}

type Run = (world: World) => Promise<void>;
interface About {
  readonly who?: readonly Who[];
  readonly vms?: readonly string[];
  readonly needs?: readonly Need[];
}

function step(about: About, run: Run): Step {
  return { who: about.who ?? [], vms: about.vms ?? [], needs: about.needs ?? [], run };
}

const waiting: readonly Sentence<Step>[] = [
  sentence("wait <time>", ({ time }) => step({}, (world) => world.wait(time))),
  sentence("wait for <count> lines of <vm>", ({ count, vm }) =>
    step({ vms: [vm] }, (world) => world.waitForLines(vm, count)),
  ),
  sentence("wait for <count> answers of <vm>", ({ count, vm }) =>
    step({ vms: [vm] }, (world) => world.waitForAnswers(vm, count)),
  ),
  sentence("wait until <vm> has a primary", ({ vm }) =>
    step({ vms: [vm] }, async (world) => {
      await world.primaryOf(vm);
    }),
  ),
  sentence("wait until <vm> is whole", ({ vm }) =>
    step({ vms: [vm] }, (world) => world.waitUntilWhole(vm)),
  ),
];

/** A step that does something to the nodes that `who` means when it is carried out. */
function hurt(
  about: About & { readonly who: readonly Who[] },
  run: (world: World, nodes: readonly NodeProcess[]) => void | Promise<void>,
): Step {
  return step(about, async (world) => {
    await run(world, await world.resolve(about.who));
  });
}

const machines: readonly Sentence<Step>[] = [
  sentence("kill <who>", ({ who }) => hurt({ who }, (world, nodes) => world.faults.kill(nodes))),
  sentence("stop <who>", ({ who }) => hurt({ who }, (world, nodes) => world.faults.stop(nodes))),
  sentence("start <who>", ({ who }) => hurt({ who }, (world, nodes) => world.faults.start(nodes))),
  sentence("pause <who>", ({ who }) => hurt({ who }, pause)),
  sentence("pause <who> for <time>", ({ who, time }) =>
    hurt({ who }, async (world, nodes) => {
      pause(world, nodes);
      await world.wait(time);
      world.faults.resume(nodes);
    }),
  ),
  sentence("resume <who>", ({ who }) =>
    hurt({ who }, (world, nodes) => world.faults.resume(nodes)),
  ),
];

function pause(world: World, nodes: readonly NodeProcess[]): void {
  world.faults.pause(nodes);
  world.moveReaders(nodes);
}

const links: readonly Sentence<Step>[] = [
  sentence("cut <who> off", ({ who }) =>
    hurt({ who, needs: ["network"] }, (world, nodes) => {
      world.faults.cutOff(nodes);
      world.moveReaders(nodes);
    }),
  ),
  sentence("cut <who> from <other>", ({ who, other }) =>
    hurt({ who, needs: ["network"] }, async (world, nodes) => {
      const others = await world.resolve(other);
      world.faults.cut(nodes, others);
      world.faults.cut(others, nodes);
    }),
  ),
  sentence("cut the way from <who> to <other>", ({ who, other }) =>
    hurt({ who, needs: ["network"] }, async (world, nodes) =>
      world.faults.cut(nodes, await world.resolve(other)),
    ),
  ),
  sentence("lose <percent> of what <who> sends", ({ percent, who }) =>
    hurt({ who, needs: ["network"] }, (world, nodes) => world.faults.lose(nodes, percent)),
  ),
  sentence("slow <who> to <rate>", ({ who, rate }) =>
    hurt({ who, needs: ["network"] }, (world, nodes) => world.faults.slow(nodes, rate)),
  ),
  sentence("heal the network", () =>
    step({ needs: ["network"] }, async (world) => world.faults.healNetwork()),
  ),
];

const hosts: readonly Sentence<Step>[] = [
  sentence("fill the disk of <who>", ({ who }) =>
    hurt({ who, needs: ["disks"] }, (world, nodes) => world.faults.fillDisk(nodes)),
  ),
  sentence("free the disk of <who>", ({ who }) =>
    hurt({ who, needs: ["disks"] }, (world, nodes) => world.faults.freeDisk(nodes)),
  ),
  sentence("break the disk of <who>", ({ who }) =>
    hurt({ who, needs: ["disks"] }, (world, nodes) => world.faults.breakDisk(nodes)),
  ),
  sentence("mend the disk of <who>", ({ who }) =>
    hurt({ who, needs: ["disks"] }, (world, nodes) => world.faults.mendDisk(nodes)),
  ),
  sentence("turn the clock of <who> forward by <time>", ({ who, time }) =>
    hurt({ who, needs: ["clocks"] }, (world, nodes) => world.faults.turnClock(nodes, time.maxMs)),
  ),
  sentence("turn the clock of <who> back by <time>", ({ who, time }) =>
    hurt({ who, needs: ["clocks"] }, (world, nodes) => world.faults.turnClock(nodes, -time.maxMs)),
  ),
];

const clients: readonly Sentence<Step>[] = [
  sentence("read <vm> through <who>", ({ vm, who }) =>
    hurt({ who, vms: [vm] }, (world, nodes) => {
      for (const node of nodes.slice(0, 1)) world.readThrough(vm, node);
    }),
  ),
  sentence("use <vm> as a store with <count> clients", ({ vm, count }) =>
    step({ vms: [vm] }, (world) => world.useAsStore(vm, count)),
  ),
];

export const stepSentences: readonly Sentence<Step>[] = [
  ...waiting,
  ...machines,
  ...links,
  ...hosts,
  ...clients,
];
