/**
 * Real nodes of the built binary for end-to-end tests. A test that fails keeps its directory with
 * the logs of all nodes, and prints where it is and how to run that test again.
 * NODE_MESH_BINARY chooses another binary; "source" runs this checkout without a build.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { VmRequest, VmView } from "../../src/api/schemas.ts";
import { Cluster, type NodeProcess, type Program, until } from "../../src/demo/cluster.ts";
import { Follower } from "../../src/demo/follower.ts";

const root = join(import.meta.dirname, "../..");

export const switchMs = 30_000;

export function program(): Program {
  const given = process.env["NODE_MESH_BINARY"] ?? "";
  if (given === "source") return { file: process.execPath, args: [join(root, "src/main.ts")] };
  const file = given === "" ? join(root, "dist/node-mesh") : given;
  if (!existsSync(file)) throw new Error(`there is no ${file}; run: npm run build`);
  return { file, args: [] };
}

/** The tiny guest that counts ten times a second and needs no boot. */
export function tickerGuest(): string {
  const built = process.env["NODE_MESH_TEST_GUESTS"] ?? join(root, "build/native/test/guests");
  const file = join(built, "ticker.elf");
  if (!existsSync(file)) throw new Error(`there is no ${file}; run: npm run build`);
  return file;
}

/** A test with nodes of its own. */
export function clusterTest(
  name: string,
  nodes: readonly string[],
  body: (cluster: Cluster) => Promise<void>,
): void {
  test(name, { timeout: 240_000 }, async () => {
    const cluster = new Cluster(program(), { prefix: "node-mesh-chaos-" });
    let good = false;
    try {
      for (const node of nodes) cluster.add(node);
      await cluster.start();
      await body(cluster);
      good = true;
    } finally {
      await cluster.close({ keep: !good });
      if (!good) console.error(again(name, cluster));
    }
  });
}

function again(name: string, cluster: Cluster): string {
  const logs = cluster.nodes.map(
    (node) => `--- ${node.name}: ${node.dataDir}/node.log\n${node.output.slice(-1500)}`,
  );
  const command = `node --test --test-name-pattern='${name}' test/chaos/*.test.ts`;
  return [`evidence: ${cluster.directory}`, `again: ${command}`, ...logs].join("\n");
}

/** Starts the counting guest from the given node. */
export async function runTicker(
  node: NodeProcess,
  options: Partial<VmRequest> = {},
): Promise<VmView> {
  return await node.client.create(
    {
      name: "ticker",
      kernel: tickerGuest(),
      initrd: null,
      cmdline: null,
      memory_bytes: 64 * 2 ** 20,
      copies: 2,
      witnesses: 1,
      engine: "auto",
      ...options,
    },
    { onProgress: () => {} },
  );
}

/** Collects a VM's console as an outside reader sees it. */
export class Reader {
  readonly follower: Follower;
  #text = "";

  constructor(cluster: Cluster, options: { readonly vm: string; readonly first: NodeProcess }) {
    this.follower = new Follower({
      vm: options.vm,
      choose: (failed) => (failed === null ? options.first : cluster.anyBut(failed.id)),
      onBytes: (bytes) => {
        this.#text += bytes.toString("latin1");
      },
    });
  }

  get text(): string {
    return this.#text;
  }

  get ticks(): number[] {
    return [...this.#text.matchAll(/tick (\d+)\r?\n/g)].map((match) => Number(match[1]));
  }

  async moreTicks(count: number): Promise<void> {
    const target = this.ticks.length + count;
    await until(`${count} more ticks`, switchMs, async () => this.ticks.length >= target);
  }

  async waitFor(text: string): Promise<void> {
    await until(`"${text}"`, switchMs, async () => this.#text.includes(text));
  }

  /** Each tick once and in order, nothing between them missing. */
  fault(): string | null {
    const wrong = this.ticks.findIndex((tick, index) => tick !== index + 1);
    if (wrong !== -1) return `tick ${this.ticks[wrong]} where ${wrong + 1} was due`;
    return this.follower.gapBytes === 0 ? null : `${this.follower.gapBytes} bytes are missing`;
  }
}

/** The node whose copy is live. */
export async function primaryOf(cluster: Cluster, vm: string): Promise<NodeProcess> {
  let id: string | null = null;
  await until(`a primary of ${vm}`, switchMs, async () => {
    id = (await cluster.anyBut().client.vm(vm)).primary;
    return id !== null;
  });
  return cluster.node(id ?? "");
}

export function nodeOfRole(cluster: Cluster, view: VmView, role: string): NodeProcess {
  const member = view.members.find((one) => one.role === role && one.node !== view.primary);
  if (member === undefined) throw new RangeError(`no other member is a ${role}`);
  return cluster.node(member.node);
}
