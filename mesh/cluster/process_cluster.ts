/**
 * A few server processes on loopback: started, killed and started again by a test or a measurement.
 * It never leaves a process or a directory behind.
 */

import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Member, MemberRole } from "../raft/types.ts";
import type { ServerCommand, ServerEvent, ServerSetup } from "./server_process.ts";

export interface ServerProcess {
  readonly index: number;
  readonly dataDir: string;
  id: string;
  addrs: readonly string[];
  child: ChildProcess | null;
  leads: boolean;
}

export class ProcessCluster {
  readonly servers: ServerProcess[] = [];
  readonly #key = randomBytes(32).toString("hex");
  readonly #root = mkdtempSync(join(tmpdir(), "node-mesh-cluster-"));
  readonly #onEvent: (server: ServerProcess, event: ServerEvent) => void;
  #members: readonly Member[] = [];

  constructor(onEvent: (server: ServerProcess, event: ServerEvent) => void) {
    this.#onEvent = onEvent;
  }

  /** Starts one process for each role and opens the group on all of them. */
  async start(roles: readonly MemberRole[]): Promise<void> {
    for (const index of roles.keys()) {
      const dataDir = join(this.#root, `${index}`);
      const server = { index, dataDir, id: "", addrs: [], child: null, leads: false };
      this.servers.push(server);
      await this.#spawn(server);
    }
    this.#members = this.servers.map(({ id, index }) => ({ id, role: roles[index]! }));
    for (const server of this.servers) this.#open(server);
  }

  async #spawn(server: ServerProcess): Promise<void> {
    const first = this.servers.find(
      ({ addrs, index }) => addrs.length > 0 && index !== server.index,
    );
    const port = server.addrs[0]?.match(/tcp\/(\d+)/)?.[1] ?? "0";
    const setup: ServerSetup = {
      dataDir: server.dataDir,
      listen: [`/ip4/127.0.0.1/tcp/${port}`],
      meshKey: this.#key,
      bootstrap: first?.addrs ?? [],
    };
    const path = join(import.meta.dirname, "server_process.ts");
    const child = fork(path, [JSON.stringify(setup)], { stdio: ["ignore", 2, 2, "ipc"] });
    server.child = child;
    const ready = Promise.withResolvers<void>();
    child.on("message", (event: ServerEvent) => {
      if (server.child !== child) return;
      if (event.kind === "ready") {
        Object.assign(server, { id: event.id, addrs: event.addrs });
        ready.resolve();
      }
      if (event.kind === "role") server.leads = event.leads;
      this.#onEvent(server, event);
    });
    child.once("exit", () => ready.reject(new Error(`Cannot start server ${server.index}`)));
    await ready.promise;
  }

  #open(server: ServerProcess): void {
    this.tell(server, { kind: "open", members: this.#members });
  }

  tell(server: ServerProcess, command: ServerCommand): void {
    if (server.child?.connected) server.child.send(command);
  }

  /** kill -9; resolves when the process is gone. */
  async kill(server: ServerProcess): Promise<void> {
    const { child } = server;
    server.child = null;
    server.leads = false;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, "exit");
    child.kill("SIGKILL");
    await exit;
  }

  async restart(server: ServerProcess): Promise<void> {
    await this.#spawn(server);
    this.#open(server);
  }

  get leader(): ServerProcess | undefined {
    return this.servers.find(({ leads }) => leads);
  }

  /** Waits for a condition on what the servers told. */
  async until(what: string, condition: () => boolean, limitMs = 20_000): Promise<void> {
    const end = performance.now() + limitMs;
    while (!condition()) {
      if (performance.now() > end) throw new Error(`Cannot go on: not in time: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.servers.map((server) => this.kill(server)));
    rmSync(this.#root, { recursive: true, force: true });
  }
}
