/**
 * A mesh node as a process of its own that holds one group, told what to do over its IPC channel.
 * For tests that kill processes and for measurements; no part of the product starts it.
 */

import type { Group } from "../group/types.ts";
import { type Mesh, openMesh } from "../mesh.ts";
import type { Entry, Member } from "../raft/types.ts";

export interface ServerSetup {
  readonly dataDir: string;
  readonly listen: readonly string[];
  /** Hexadecimal. */
  readonly meshKey: string;
  readonly bootstrap: readonly string[];
}

export const GROUP_ID = "cluster";

export type ServerCommand =
  | { readonly kind: "open"; readonly members: readonly Member[] }
  /** Proposes entries `<id>:<n>` all the time while it leads; reports what it delivers. */
  | { readonly kind: "load" }
  /** Proposes `count` entries with `window` of them under way, and reports the latencies. */
  | {
      readonly kind: "measure";
      readonly count: number;
      readonly bytes: number;
      readonly window: number;
    }
  | { readonly kind: "stop" };

export type ServerEvent =
  | { readonly kind: "ready"; readonly id: string; readonly addrs: readonly string[] }
  | { readonly kind: "role"; readonly leads: boolean; readonly term: number }
  | { readonly kind: "delivered"; readonly from: number; readonly texts: readonly string[] }
  | {
      readonly kind: "measured";
      /** Propose to delivery on this node, in the order of proposal. */
      readonly latenciesMs: readonly number[];
      readonly wallMs: number;
      /** Processor time of the leader's process, all threads. */
      readonly cpuMs: number;
      /** The longest that this process's event loop was late. */
      readonly stallMsMax: number;
    }
  | { readonly kind: "failed"; readonly message: string };

class Server {
  readonly #mesh: Mesh;
  #group: Group | null = null;
  #leads = false;
  #reports = false;
  #proposed = 0;
  #measurement: Measurement | null = null;
  #loadTimer: NodeJS.Timeout | null = null;

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
  }

  async command(command: ServerCommand): Promise<void> {
    switch (command.kind) {
      case "open":
        await this.#open(command.members);
        break;
      case "load":
        this.#reports = true;
        this.#loadTimer = setInterval(() => this.#proposeSome(), 5);
        break;
      case "measure":
        this.#measurement = new Measurement(this.#group!, command);
        this.#measurement.propose();
        break;
      case "stop":
        if (this.#loadTimer !== null) clearInterval(this.#loadTimer);
        await this.#mesh.stop();
        process.disconnect?.();
        break;
    }
  }

  async #open(members: readonly Member[]): Promise<void> {
    const { groups } = this.#mesh;
    await groups.create({ groupId: GROUP_ID, members, info: new Uint8Array() });
    this.#group = await groups.open(GROUP_ID, {
      onCommitted: (entries) => this.#onCommitted(entries),
      onRole: ({ readyToLead, term }) => {
        this.#leads = readyToLead;
        tell({ kind: "role", leads: readyToLead, term });
      },
      onError: (error) => tell({ kind: "failed", message: error.message }),
    });
  }

  #onCommitted(entries: readonly Entry[]): void {
    this.#measurement?.delivered(entries);
    if (this.#measurement?.isDone) {
      tell(this.#measurement.result());
      this.#measurement = null;
    }
    if (!this.#reports) return;
    const texts = entries.map(({ term, kind, data }) =>
      kind === "data" ? Buffer.from(data).toString("latin1") : `${kind} of term ${term}`,
    );
    tell({ kind: "delivered", from: entries[0]!.index, texts });
  }

  #proposeSome(): void {
    for (let n = 0; this.#leads && n < 10; n += 1) {
      const text = `${this.#mesh.id}:${process.pid}:${this.#proposed}`;
      if (this.#group?.propose(Buffer.from(text)) === null) return;
      this.#proposed += 1;
    }
  }
}

class Measurement {
  readonly #group: Group;
  readonly #command: ServerCommand & { kind: "measure" };
  readonly #data: Uint8Array;
  readonly #startMs = new Map<number, number>();
  readonly #latenciesMs: number[] = [];
  readonly #beganMs = performance.now();
  readonly #beganCpu = process.cpuUsage();
  readonly #stallTimer: NodeJS.Timeout;
  #stallMsMax = 0;
  #proposed = 0;

  constructor(group: Group, command: ServerCommand & { kind: "measure" }) {
    this.#group = group;
    this.#command = command;
    this.#data = new Uint8Array(command.bytes).fill(7);
    let lastMs = performance.now();
    this.#stallTimer = setInterval(() => {
      const now = performance.now();
      this.#stallMsMax = Math.max(this.#stallMsMax, now - lastMs - 5);
      lastMs = now;
    }, 5);
  }

  propose(): void {
    const { count, window } = this.#command;
    while (this.#proposed < count && this.#startMs.size < window) {
      const proposal = this.#group.propose(this.#data);
      if (proposal === null) return;
      this.#startMs.set(proposal.index, performance.now());
      this.#proposed += 1;
    }
  }

  delivered(entries: readonly Entry[]): void {
    const now = performance.now();
    for (const { index } of entries) {
      const start = this.#startMs.get(index);
      if (start === undefined) continue;
      this.#startMs.delete(index);
      this.#latenciesMs.push(now - start);
    }
    // With a window of one the next proposal must not share this turn's work.
    if (this.#command.window === 1) setImmediate(() => this.propose());
    else this.propose();
  }

  get isDone(): boolean {
    return this.#latenciesMs.length >= this.#command.count;
  }

  result(): ServerEvent {
    clearInterval(this.#stallTimer);
    const wallMs = performance.now() - this.#beganMs;
    const { user, system } = process.cpuUsage(this.#beganCpu);
    const cpuMs = (user + system) / 1_000;
    const stallMsMax = this.#stallMsMax;
    return { kind: "measured", latenciesMs: this.#latenciesMs, wallMs, cpuMs, stallMsMax };
  }
}

function tell(event: ServerEvent): void {
  // Not there in a process that was not forked, or after its parent died.
  if (process.connected && process.send !== undefined) process.send(event);
}

async function main(): Promise<void> {
  const { meshKey, ...setup } = JSON.parse(process.argv[2] ?? "{}") as ServerSetup;
  const key = Uint8Array.from(Buffer.from(meshKey, "hex"));
  const mesh = await openMesh({ ...setup, meshKey: key, admission: "key" });
  const server = new Server(mesh);
  process.on("message", (command: ServerCommand) => {
    server.command(command).catch((error: Error) => {
      tell({ kind: "failed", message: error.message });
    });
  });
  tell({ kind: "ready", id: mesh.id, addrs: mesh.node.addresses() });
}

if (import.meta.main) await main();
