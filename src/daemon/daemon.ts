/**
 * One node: composes the mesh, the VMs held here and the local API, and ends them in order. Must
 * never block its thread: heartbeats of all groups live on it.
 */
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { type JoinTarget, type Mesh, openMesh } from "../../mesh/mod.ts";
import { type ApiOptions, type ApiServer, startApi } from "../api/server.ts";
import { assetPath, storageWorker } from "../assets.ts";
import { Observatory } from "../metrics/observatory.ts";
import { makePrivateDirectory } from "../private_directory.ts";
import { version } from "../version.ts";
import { type VmmFactory, VmmProcess } from "../vm/vmm_process.ts";
import { Caretaker } from "./caretaker.ts";
import { serveMembers } from "./member_service.ts";
import { type NodeLog, type NodeLogOptions, openNodeLog } from "./node_log.ts";
import { VmCreator } from "./vm_creator.ts";
import { VmHost } from "./vm_host.ts";
import { VmMover } from "./vm_mover.ts";
import { VmRouter } from "./vm_router.ts";

/** Changes within this time are announced together. */
const announceMs = 200;
/** Capacity changes without an event of ours. */
const refreshMs = 5_000;

export interface DaemonOptions {
  readonly dataDir: string;
  readonly listen: readonly string[];
  readonly name: string;
  /** The mesh to join; without it the stored one, or a new one. See `Mesh.join`. */
  readonly join?: JoinTarget;
  /** Members to find the mesh by, beside those that are remembered. */
  readonly bootstrap?: readonly string[];
  /** A member of a VM led here that is away this long is replaced. */
  readonly replaceAfterMs?: number;
  /** What fails together with this node: a room, a rack, a power line. */
  readonly domain?: string;
  /** The API on TCP, beside the Unix socket. */
  readonly api?: ApiOptions;
  readonly logging?: NodeLogOptions;
}

export interface Daemon {
  readonly mesh: Mesh;
  readonly host: VmHost;
  readonly router: VmRouter;
  readonly creator: VmCreator;
  readonly mover: VmMover;
  readonly observatory: Observatory;
  /** Where the API listens. */
  readonly api: ApiServer;
  readonly log: NodeLog;
  readonly startedMs: number;
  stop(): Promise<void>;
}

/** What the API is made of: everything but itself. */
export type DaemonParts = Omit<Daemon, "api">;

export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  makePrivateDirectory(options.dataDir);
  const log = openNodeLog(join(options.dataDir, "node.log"), options.logging);
  const ends: (() => unknown)[] = [() => log.close()];
  try {
    const mesh = await open(options, log);
    ends.unshift(() => mesh.stop());
    return await compose(mesh, { ...options, log, ends });
  } catch (error) {
    await endAll(ends);
    throw error;
  }
}

function open(options: DaemonOptions, log: NodeLog): Promise<Mesh> {
  return openMesh({
    log,
    dataDir: options.dataDir,
    listen: options.listen,
    name: options.name,
    workerSource: storageWorker,
    ...(options.join === undefined ? {} : { meshKey: options.join.key, joins: true }),
    ...(options.bootstrap === undefined ? {} : { bootstrap: options.bootstrap }),
  });
}

async function compose(
  mesh: Mesh,
  options: DaemonOptions & { readonly log: NodeLog; readonly ends: (() => unknown)[] },
): Promise<Daemon> {
  const { ends, log } = options;
  const directory = join(options.dataDir, "run");
  const monitor = assetPath("vmm", { directory });
  const factory: VmmFactory = (handlers) => new VmmProcess(monitor, handlers);
  let host: VmHost | null = null;
  const announcer = new Announcer(() => {
    if (host !== null) announce(mesh, host, options.domain);
  });
  const router = new VmRouter(mesh);
  let observatory: Observatory | null = null;
  host = new VmHost({
    mesh,
    factory,
    log,
    onChange: () => announcer.changed(),
    observe: (spec, sight) => observatory?.see(spec, sight),
    onForgotten: (spec) => observatory?.forget(spec),
  });
  observatory = new Observatory({ mesh, host, router });
  ends.unshift(
    () => host?.close(),
    () => observatory?.close(),
    () => announcer.close(),
  );
  await host.start();
  ends.unshift(serveMembers(mesh, host));
  const creator = new VmCreator({ mesh, host, router, factory, directory });
  const mover = new VmMover({ mesh, router });
  const { replaceAfterMs } = options;
  const caring = replaceAfterMs === undefined ? {} : { replaceAfterMs };
  const caretaker = new Caretaker({ mesh, host, router, mover, log, ...caring });
  ends.unshift(() => caretaker.close());
  const parts = {
    mesh,
    host,
    router,
    creator,
    mover,
    observatory,
    log,
    startedMs: Date.now(),
    stop: () => endAll(ends),
  };
  const { dataDir } = options;
  const tcp = options.api === undefined ? {} : { tcp: options.api };
  const api = await startApi(parts, { dataDir, ...tcp });
  ends.unshift(() => api.close());
  announcer.changed();
  log.info({ node: mesh.id, addresses: mesh.node.addresses() }, "the node is up");
  return { ...parts, api };
}

/** Each part ends even if the one before it failed to. */
async function endAll(ends: (() => unknown)[]): Promise<void> {
  for (const end of ends.splice(0)) {
    try {
      await end();
    } catch {
      // Nothing can be done for a part that does not end; the process is about to.
    }
  }
}

function announce(mesh: Mesh, host: VmHost, domain: string | undefined): void {
  mesh.directory.announce({
    version,
    labels: domain === undefined ? {} : { domain },
    capacity: {
      memory_bytes: totalmem(),
      memory_free_bytes: Math.floor(host.memoryFreeBytes()),
      takes: host.takes ? 1 : 0,
      cpus: cpus().length,
      load_percent: loadPercent(),
    },
    vms: host.all().map((vm) => {
      const status = vm.status();
      return {
        id: vm.spec.id,
        name: vm.spec.name,
        specHash: vm.spec.kernelSha256.slice(0, 16),
        role: status.role,
        term: status.term,
        leader: status.leader,
        position: status.chunkCount,
        state: status.state,
      };
    }),
  });
}

function loadPercent(): number {
  const [load = 0] = loadavg();
  return Math.round((100 * load) / Math.max(1, cpus().length));
}

/** Gathers changes, so that a busy moment is one announcement. */
class Announcer {
  readonly #announce: () => void;
  #timer: NodeJS.Timeout | null = null;
  readonly #refresh: NodeJS.Timeout;

  constructor(announce: () => void) {
    this.#announce = announce;
    this.#refresh = setInterval(() => this.changed(), refreshMs).unref();
  }

  changed(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#announce();
    }, announceMs).unref();
  }

  close(): void {
    clearInterval(this.#refresh);
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}
