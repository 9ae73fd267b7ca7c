/**
 * Nodes as real processes of a built binary, each with its own data directory, on loopback. Used by
 * the demo, the benchmark and the end-to-end tests. Every process started here is reaped, whatever
 * happens; directories are removed unless they are kept as evidence.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient, NodeGoneError } from "../api/client.ts";
import type { MemberView, Status, VmView } from "../api/schemas.ts";

export const clusterLimits = { startMs: 60_000, stopMs: 15_000, pollMs: 25 } as const;

export interface NodePlace {
  /** HOST:PORT; any free port of loopback by default. */
  readonly listen?: string;
  /** The network namespace that the node runs in. */
  readonly netns?: string;
  /** Variables of its environment beside the caller's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Further options of `up` and `join`. */
  readonly options?: readonly string[];
}

export interface Program {
  readonly file: string;
  readonly args: readonly string[];
}

/** The process that a node is, from one start to its end. */
export class NodeProcess {
  readonly name: string;
  readonly dataDir: string;
  readonly client: ApiClient;
  readonly #program: Program;
  readonly #outPath: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #more: readonly string[];
  #child: ChildProcess | null = null;
  #exited: Promise<number | null> = Promise.resolve(null);
  #listen = "127.0.0.1:0";
  #id = "";

  constructor(
    name: string,
    options: { readonly program: Program; readonly directory: string; readonly place: NodePlace },
  ) {
    this.name = name;
    this.dataDir = join(options.directory, name);
    const { file, args } = options.program;
    const { listen, netns, env } = options.place;
    this.#env = env ?? {};
    const inside = ["netns", "exec", netns ?? "", file, ...args];
    this.#program = netns === undefined ? options.program : { file: "ip", args: inside };
    this.#listen = listen ?? this.#listen;
    this.#more = options.place.options ?? [];
    this.#outPath = join(options.directory, `${name}.out`);
    this.client = new ApiClient(this.dataDir);
    mkdirSync(this.dataDir, { recursive: true, mode: 0o700 });
  }

  get id(): string {
    return this.#id;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get alive(): boolean {
    return this.#child !== null;
  }

  get output(): string {
    try {
      return readFileSync(this.#outPath, "utf8");
    } catch {
      return "";
    }
  }

  /** Starts the node and waits until it answers. A ticket makes it join. */
  async start(options: { readonly ticket?: string } = {}): Promise<Status> {
    const verb = options.ticket === undefined ? ["up"] : ["join", options.ticket];
    const { file, args } = this.#program;
    const own = ["--data", this.dataDir, "--listen", this.#listen, "--name", this.name];
    const child = spawn(file, [...args, ...verb, ...own, ...this.#more], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...this.#env },
    });
    this.#child = child;
    const keep = (piece: Buffer): void => appendFileSync(this.#outPath, piece);
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    this.#exited = new Promise((resolve) => {
      child.once("error", () => resolve(null));
      child.once("close", (code) => resolve(code));
    });
    void this.#exited.then(() => {
      if (this.#child === child) this.#child = null;
    });
    const status = await this.#answers(child);
    this.#id = status.id;
    const port = /\/tcp\/(\d+)/.exec(status.addresses[0] ?? "")?.[1];
    if (port !== undefined) this.#listen = this.#listen.replace(/:0$/, `:${port}`);
    return status;
  }

  /** Ends it like a power failure would, and waits until it is gone. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#exited;
  }

  /** Ends it in order; the exit status. */
  async stop(): Promise<number | null> {
    this.#child?.kill("SIGTERM");
    const late = setTimeout(() => this.#child?.kill("SIGKILL"), clusterLimits.stopMs);
    const code = await this.#exited;
    clearTimeout(late);
    return code;
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  async #answers(child: ChildProcess): Promise<Status> {
    const deadline = performance.now() + clusterLimits.startMs;
    while (this.#child === child && performance.now() < deadline) {
      try {
        const status = await this.client.status();
        if (status.pid === child.pid) return status;
      } catch (error) {
        if (!(error instanceof NodeGoneError)) throw error;
      }
      await delay(clusterLimits.pollMs);
    }
    const said = this.output.trim().split("\n").slice(-3).join(" | ");
    throw new Error(`node ${this.name} did not start: ${said}`);
  }
}

/** Some nodes of one mesh. */
export class Cluster {
  readonly directory: string;
  readonly nodes: NodeProcess[] = [];
  readonly #program: Program;

  constructor(program: Program, options: { readonly prefix?: string } = {}) {
    this.#program = program;
    this.directory = mkdtempSync(join(tmpdir(), options.prefix ?? "node-mesh-"));
    process.once("exit", this.#onExit);
  }

  add(name: string, place: NodePlace = {}): NodeProcess {
    const options = { program: this.#program, directory: this.directory, place };
    const node = new NodeProcess(name, options);
    this.nodes.push(node);
    return node;
  }

  node(id: string): NodeProcess {
    const found = this.nodes.find((node) => node.id === id);
    if (found === undefined) throw new RangeError(`no node of this cluster is ${id}`);
    return found;
  }

  /** Starts all nodes that were added, and waits until each is connected to each. */
  async start(): Promise<void> {
    const [first, ...others] = this.nodes;
    if (first === undefined) return;
    await first.start();
    const ticket = await first.client.ticket();
    await Promise.all(others.map((node) => node.start({ ticket })));
    await this.connected();
  }

  async connected(): Promise<void> {
    const wanted = this.nodes.filter((node) => node.alive).length - 1;
    await until("the nodes to be connected", clusterLimits.startMs, async () => {
      const alive = this.nodes.filter((node) => node.alive);
      const all = await Promise.all(alive.map((node) => node.client.status()));
      return all.every((status) => status.peers_connected >= wanted);
    });
  }

  /** A node that is alive, another one than those given where there is one. */
  anyBut(...ids: readonly string[]): NodeProcess {
    const alive = this.nodes.filter((node) => node.alive);
    const found = alive.find((node) => !ids.includes(node.id)) ?? alive[0];
    if (found === undefined) throw new RangeError("no node is alive");
    return found;
  }

  /** Ends all nodes like a power failure would. */
  async end(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()));
  }

  async close(options: { readonly keep?: boolean } = {}): Promise<void> {
    await this.end();
    process.off("exit", this.#onExit);
    if (options.keep !== true) rmSync(this.directory, { recursive: true, force: true });
  }

  /** The last resort: nobody waits any more. */
  readonly #onExit = (): void => {
    for (const node of this.nodes) node.signal("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  };
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits until `holds`; what it throws counts as not yet. */
export async function until(
  what: string | (() => string),
  timeoutMs: number,
  holds: () => Promise<boolean>,
  options: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let trouble = "";
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      if (await holds()) return;
    } catch (error) {
      trouble = ` (${(error as Error).message})`;
    }
    if (performance.now() > deadline) {
      const thing = typeof what === "string" ? what : what();
      throw new Error(`waited ${timeoutMs / 1000} s for ${thing}${trouble}`);
    }
    await delay(clusterLimits.pollMs);
  }
}

/** Waits until a member follows the log to the place where its primary is now. */
export async function caughtUp(
  client: ApiClient,
  options: { readonly vm: string; readonly node: string; readonly timeoutMs: number },
): Promise<VmView> {
  let view = await client.vm(options.vm);
  const target = view.chunks;
  const member = (): MemberView | undefined =>
    view.members.find((candidate) => candidate.node === options.node);
  await until(`${options.vm} to catch up`, options.timeoutMs, async () => {
    view = await client.vm(options.vm);
    const found = member();
    if (found?.role === "witness") return found.chunks >= target;
    const following = found?.state === "following" || found?.state === "live";
    return following && found !== undefined && found.replayed_chunks >= target;
  });
  return view;
}
