/**
 * A scenario file: which nodes and VMs there are, what happens to them in which order, and what
 * must hold. Only what the file says; nothing here runs it.
 */
import { UserError } from "../user_error.ts";
import type { Need } from "./faults.ts";
import { nearestForm, type Sentence, sentence } from "./grammar.ts";
import { type Hold, holdSentences } from "./holds.ts";
import { type Step, stepSentences } from "./steps.ts";

export const scenarioLimits = {
  fileBytesMax: 64 * 1024,
  nodesMax: 9,
  vmsMax: 8,
  stepsMax: 500,
} as const;

export interface ScenarioVm {
  readonly name: string;
  readonly copies: number;
  readonly witnesses: number;
}

/** A sentence as it stands in the file. */
export interface Line<T> {
  readonly number: number;
  readonly text: string;
  readonly meaning: T;
}

export interface Scenario {
  readonly name: string;
  /** The file's first comment. */
  readonly title: string;
  readonly nodes: readonly string[];
  readonly vms: readonly ScenarioVm[];
  readonly steps: readonly Line<Step>[];
  readonly holds: readonly Line<Hold>[];
  readonly needs: ReadonlySet<Need>;
}

type Part =
  | { readonly part: "nodes"; readonly names: readonly string[] }
  | { readonly part: "vm"; readonly vm: ScenarioVm }
  | { readonly part: "step"; readonly step: Step }
  | { readonly part: "hold"; readonly hold: Hold };

const sentences: readonly Sentence<Part>[] = [
  sentence("nodes <names>", ({ names }): Part => ({ part: "nodes", names })),
  sentence(
    "vm <vm> with <count> copies",
    ({ vm, count }): Part => ({
      part: "vm",
      vm: { name: vm, copies: count, witnesses: 0 },
    }),
  ),
  sentence(
    "vm <vm> with <count> copies and a witness",
    ({ vm, count }): Part => ({
      part: "vm",
      vm: { name: vm, copies: count, witnesses: 1 },
    }),
  ),
  ...stepSentences.map(
    ({ form, read }): Sentence<Part> => ({
      form,
      read: (text) => {
        const step = read(text);
        return step === null ? null : { part: "step", step };
      },
    }),
  ),
  ...holdSentences.map(
    ({ form, read }): Sentence<Part> => ({
      form: `hold ${form}`,
      read: (text) => {
        const hold = text.startsWith("hold ") ? read(text.slice(5).trim()) : null;
        return hold === null ? null : { part: "hold", hold };
      },
    }),
  ),
];

/** Every sentence that a scenario may use. */
export const scenarioForms: readonly string[] = sentences.map((one) => one.form);

/** Reads a file's text. Throws a UserError that names the line. */
export function readScenario(name: string, text: string): Scenario {
  if (text.length > scenarioLimits.fileBytesMax) {
    const limit = `${scenarioLimits.fileBytesMax} bytes`;
    throw refusal(name, `it has more than ${limit}; is it a scenario?`);
  }
  const lines = text.split("\n").map((line) => line.trim());
  const parts: Line<Part>[] = [];
  for (const [index, line] of lines.entries()) {
    if (line === "" || line.startsWith("#")) continue;
    const said = line.replace(/\s+#.*$/, "");
    parts.push({ number: index + 1, text: said, meaning: readPart(name, index + 1, said) });
  }
  const comment = lines.find((line) => line.startsWith("#")) ?? "";
  return assemble(name, comment.replace(/^#+\s*/, ""), parts);
}

function readPart(name: string, number: number, text: string): Part {
  let fault = "";
  for (const one of sentences) {
    try {
      const part = one.read(text);
      if (part !== null) return part;
    } catch (error) {
      // Another form may fit, with other blanks.
      if (!(error instanceof RangeError)) throw error;
      fault = error.message;
    }
  }
  if (fault !== "") throw refusal(name, `line ${number}: ${fault}`);
  const nearest = nearestForm(text, scenarioForms);
  const remedy = `say "${nearest}", or see: node-mesh chaos --sentences`;
  throw refusal(name, `line ${number}: "${text}" is no sentence of scenarios; ${remedy}`);
}

function assemble(name: string, title: string, parts: readonly Line<Part>[]): Scenario {
  const nodes = parts.flatMap(({ meaning }) => (meaning.part === "nodes" ? meaning.names : []));
  const vms = parts.flatMap(({ meaning }) => (meaning.part === "vm" ? [meaning.vm] : []));
  const steps: Line<Step>[] = [];
  const holds: Line<Hold>[] = [];
  for (const { number, text, meaning } of parts) {
    if (meaning.part === "step") steps.push({ number, text, meaning: meaning.step });
    if (meaning.part === "hold") holds.push({ number, text, meaning: meaning.hold });
  }
  const scenario: Scenario = {
    name,
    title,
    nodes,
    vms,
    steps,
    holds,
    needs: new Set(steps.flatMap((step) => step.meaning.needs)),
  };
  check(scenario);
  return scenario;
}

function check(scenario: Scenario): void {
  const { name, nodes, vms, steps, holds } = scenario;
  const limits = scenarioLimits;
  const fault = (why: string): never => {
    throw refusal(name, why);
  };
  if (nodes.length < 1) fault('it names no nodes; begin with "nodes alpha beta gamma"');
  if (nodes.length > limits.nodesMax)
    fault(`it has more than ${limits.nodesMax} nodes; take fewer`);
  if (vms.length > limits.vmsMax) fault(`it has more than ${limits.vmsMax} VMs; take fewer`);
  if (steps.length > limits.stepsMax) fault(`it has more than ${limits.stepsMax} steps; split it`);
  if (holds.length === 0) fault('it says nothing that must hold; add "hold every line once"');
  const twice = [...nodes, ...vms.map((vm) => vm.name)].find(
    (one, index, all) => all.indexOf(one) !== index,
  );
  if (twice !== undefined) fault(`it has two things named "${twice}"; rename one`);
  for (const vm of vms) {
    const members = vm.copies + vm.witnesses;
    if (vm.copies < 1 || members > nodes.length) {
      fault(`VM "${vm.name}" needs ${members} nodes and there are ${nodes.length}; add nodes`);
    }
  }
  for (const { number, meaning } of [...steps, ...holds]) {
    for (const who of meaning.who) {
      if (who.kind === "name" && !nodes.includes(who.name)) {
        fault(`line ${number}: there is no node "${who.name}"; it has ${nodes.join(", ")}`);
      }
    }
    const roles = meaning.who.flatMap((who) => (who.kind === "role" ? [who.vm] : []));
    for (const vm of [...meaning.vms, ...roles]) {
      if (!vms.some((known) => known.name === vm)) {
        fault(`line ${number}: there is no VM "${vm}"; add "vm ${vm} with 2 copies and a witness"`);
      }
    }
  }
}

function refusal(name: string, why: string): UserError {
  return new UserError(`Cannot read scenario "${name}": ${why}`, { kind: "invalid" });
}
