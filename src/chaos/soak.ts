/**
 * Scenarios that nobody wrote: a seed makes up nodes, VMs and a sequence of faults that the group
 * must survive. Written out as a scenario file, so that one that fails can be read and cut down.
 */
import { Prng } from "../prng.ts";

const names = ["alpha", "beta", "gamma", "delta", "epsilon"] as const;
const vm = "counter";
const faultsMin = 3;
const faultsMax = 6;

interface Kind {
  readonly network: boolean;
  readonly lines: (prng: Prng) => readonly string[];
}

const victim = (prng: Prng): string =>
  prng.pick([`primary of ${vm}`, `backup of ${vm}`, "a random node", ...names.slice(0, 3)]);

/** Each ends with all machines in order again, so that faults do not add up to no majority. */
const kinds: readonly Kind[] = [
  { network: false, lines: (prng) => [`kill ${victim(prng)}`, pauseOf(prng), "start the dead"] },
  { network: false, lines: (prng) => [`stop ${victim(prng)}`, pauseOf(prng), "start the dead"] },
  { network: false, lines: (prng) => [`pause ${victim(prng)} for ${prng.between(1, 6)} s`] },
  { network: false, lines: (prng) => ["kill all", `wait ${prng.between(0, 900)} ms`, "start all"] },
  {
    network: true,
    lines: (prng) => [`cut ${victim(prng)} off`, pauseOf(prng), "heal the network"],
  },
  {
    network: true,
    lines: (prng) => [
      `cut the way from ${victim(prng)} to ${prng.pick(names.slice(0, 3))}`,
      pauseOf(prng),
      "heal the network",
    ],
  },
  {
    network: true,
    lines: (prng) => [
      `lose ${prng.between(1, 20)} % of what all sends`,
      pauseOf(prng),
      "heal the network",
    ],
  },
];

function pauseOf(prng: Prng): string {
  return `wait ${prng.between(200, 6000)} ms`;
}

/** The text of the scenario that this seed makes, with or without faults of the network. */
export function makeUpScenario(seed: number, options: { readonly network: boolean }): string {
  const prng = new Prng(seed);
  const nodes = names.slice(0, prng.between(3, names.length));
  const members = prng.pick(["2 copies and a witness", "3 copies"]);
  const usable = kinds.filter((kind) => options.network || !kind.network);
  const lines = [
    `# Made up from seed ${seed}.`,
    `nodes ${nodes.join(" ")}`,
    `vm ${vm} with ${members}`,
    `wait for 1 lines of ${vm}`,
  ];
  const count = prng.between(faultsMin, faultsMax);
  for (let fault = 0; fault < count; fault += 1) {
    lines.push(...prng.pick(usable).lines(prng), `wait for ${prng.between(1, 3)} lines of ${vm}`);
    if (prng.chance(0.5)) lines.push(`wait until ${vm} is whole`);
  }
  lines.push(
    "hold every line once",
    "hold one primary in a term",
    "hold all whole within 60 s",
    "hold nothing left behind",
  );
  return `${lines.join("\n")}\n`;
}
