/**
 * Makes a new VM: checks what the user asked for, brings the images into the mesh, finds nodes that
 * take it, and waits until it runs. What fails half-way is undone. The VM's truth is its group from
 * the moment that its members have it; nothing of it is kept here.
 */
import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import type { Mesh } from "../../mesh/mod.ts";
import { assetPath, defaultCommandLine } from "../assets.ts";
import { logLimits } from "../log/log_schema.ts";
import { cannot, oneLine, type Refusal } from "../user_error.ts";
import { type Candidate, place } from "../vm/placement.ts";
import type { VmRequest } from "../vm/vm_request.ts";
import {
  checkSpec,
  encodeSpec,
  limitsOfVm,
  machineConfig,
  type VmSpec,
  vmNamePattern,
} from "../vm/vm_spec.ts";
import type { VmmFactory } from "../vm/vmm_process.ts";
import { candidatesOf } from "./candidates.ts";
import { VM_ABANDON, VM_CREATE, VM_LEAD, VM_RESERVE } from "./member_rpc.ts";
import type { VmHost } from "./vm_host.ts";
import type { VmRouter } from "./vm_router.ts";
import { condition, type VmView } from "./vm_view.ts";

export const creatorLimits = {
  /** Placements tried when nodes refuse. */
  attemptsMax: 4,
  /** A member fetches the images before it answers. */
  createMs: 120_000,
  reserveMs: 3_000,
  /** Until the VM runs, elections and the loading of images included. */
  liveMs: 90_000,
  /** Nodes that joined a moment ago have not told what they lend yet. */
  hintsMs: 3_000,
  pollMs: 50,
} as const;

type Images = Pick<VmSpec, "kernelSha256" | "initrdSha256">;

export interface VmCreatorParts {
  readonly mesh: Mesh;
  readonly host: VmHost;
  readonly router: VmRouter;
  readonly factory: VmmFactory;
  /** Where files of the binary may be unpacked. */
  readonly directory: string;
}

export interface CreateOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
}

export class VmCreator {
  readonly #parts: VmCreatorParts;

  constructor(parts: VmCreatorParts) {
    this.#parts = parts;
  }

  async create(request: VmRequest, options: CreateOptions): Promise<VmView> {
    checkRequest(request);
    const { router, mesh } = this.#parts;
    if (!mesh.may(mesh.id, "use")) {
      const why = 'this node has not the role "use"';
      throw cannot("run VM", request.name, { why, remedy: "ask a node that may administer" });
    }
    if ((await router.find(request.name)) !== null) throw taken(request.name);
    options.onProgress("reading the kernel and the initrd");
    const images = await this.#import(request, options.signal);
    options.onProgress("checking that the machine can be built");
    await this.#check(this.#draft(request, images), options.signal);
    const spec = await this.#placeOnNodes(request, { ...options, images });
    options.onProgress("starting");
    await this.#lead(spec);
    try {
      return await this.#waitLive(spec, options);
    } catch (error) {
      await router
        .remove(spec, { signal: AbortSignal.timeout(creatorLimits.reserveMs) })
        .catch(() => this.#abandon(spec));
      throw error;
    }
  }

  #draft(request: VmRequest, images: Images): VmSpec {
    const now = Date.now();
    const custom = request.kernel !== null;
    return {
      version: 1,
      id: randomBytes(16).toString("hex"),
      name: request.name,
      owner: this.#parts.mesh.id,
      createdMs: now,
      engine: request.engine,
      ...(request.rng === true ? { rng: true } : {}),
      ...(request.net === true ? { net: { mac: newMac(), mtu: networkMtu } } : {}),
      memoryBytes: request.memory_bytes,
      cmdline: request.cmdline ?? (custom ? "console=ttyS0" : defaultCommandLine()),
      ...images,
      rngSeed: randomBytes(32).toString("hex"),
      startRealtimeMs: now,
      copies: 1,
      witnesses: 0,
      members: [{ id: this.#parts.mesh.id, role: "replica" }],
    };
  }

  async #import(request: VmRequest, signal: AbortSignal): Promise<Images> {
    const asset = { directory: this.#parts.directory };
    const kernel = request.kernel ?? assetPath("guest/vmlinuz", asset);
    const initrd =
      request.kernel === null && request.initrd === null
        ? assetPath("guest/initrd", asset)
        : request.initrd;
    const put = async (kind: string, path: string): Promise<string> => {
      try {
        if (!statSync(path).isFile()) throw new Error("it is not a regular file");
        return (await this.#parts.mesh.blobs.put({ path }, { signal })).hash;
      } catch (error) {
        const why = `the ${kind} "${path}" cannot be read: ${fileTrouble(error)}`;
        throw cannot("run VM", request.name, { why, remedy: `check --${kind}`, kind: "invalid" });
      }
    };
    return {
      kernelSha256: await put("kernel", kernel),
      initrdSha256: initrd === null ? null : await put("initrd", initrd),
    };
  }

  /** Builds the machine once, here, so that a bad image is an answer and not a VM that fails. */
  async #check(draft: VmSpec, signal: AbortSignal): Promise<void> {
    const { blobs } = this.#parts.mesh;
    const ignore = (): void => {};
    const vmm = this.#parts.factory({
      onMessage: ignore,
      onChunk: ignore,
      onOutput: ignore,
      onFrame: ignore,
      onExit: ignore,
    });
    try {
      const kernel = blobs.path(draft.kernelSha256) ?? "";
      const initrd = draft.initrdSha256 === null ? null : blobs.path(draft.initrdSha256);
      const config = machineConfig(draft);
      await vmm.start({ config, kernel, initrd, engine: draft.engine }, signal);
    } catch (error) {
      const remedy = "check --kernel, --initrd, --cmdline and --mem";
      throw cannot("run VM", draft.name, { why: oneLine(error), remedy, kind: "invalid" });
    } finally {
      await vmm.kill();
    }
  }

  async #placeOnNodes(
    request: VmRequest,
    options: CreateOptions & { readonly images: Images },
  ): Promise<VmSpec> {
    const refusals: string[] = [];
    const excluded = new Set<string>();
    for (let attempt = 0; attempt < creatorLimits.attemptsMax; attempt += 1) {
      const draft = this.#draft(request, options.images);
      const members = await this.#choose(request, { draft, excluded, refusals });
      const { copies, witnesses } = request;
      const spec = checkSpec({ ...draft, copies, witnesses, members });
      await this.#reserve(spec);
      const names = members.map(({ id, role }) => `${this.#parts.router.nameOf(id)} (${role})`);
      options.onProgress(`placing it on ${names.join(", ")}`);
      const refused = await this.#offer(spec, options.signal);
      await this.#askAll(spec, true);
      if (refused.size === 0) return spec;
      for (const [id, why] of refused) {
        excluded.add(id);
        refusals.push(`${this.#parts.router.nameOf(id)}: ${why}`);
      }
      await this.#abandon(spec);
    }
    const why = `nodes refused it (${refusals.join(", ")})`;
    throw cannot("run VM", request.name, { why, remedy: "see: node-mesh nodes" });
  }

  async #choose(
    request: VmRequest,
    context: {
      readonly draft: VmSpec;
      readonly excluded: ReadonlySet<string>;
      readonly refusals: readonly string[];
    },
  ): Promise<VmSpec["members"]> {
    const wanted = request.copies + request.witnesses;
    const candidates = await this.#candidates(wanted, context.excluded);
    const placement = place(
      {
        vmId: context.draft.id,
        memoryBytes: request.memory_bytes,
        copies: request.copies,
        witnesses: request.witnesses,
      },
      candidates,
    );
    const replicas = placement.replicas.slice(0, request.copies);
    const chosen = new Set(replicas.map((node) => node.id));
    const witnesses = placement.witnesses
      .filter((node) => !chosen.has(node.id))
      .slice(0, request.witnesses);
    if (replicas.length + witnesses.length === wanted && replicas.length === request.copies) {
      return [
        ...replicas.map(({ id }) => ({ id, role: "replica" as const })),
        ...witnesses.map(({ id }) => ({ id, role: "witness" as const })),
      ];
    }
    throw cannot("run VM", request.name, tooFew(request, { candidates, ...context, replicas }));
  }

  /** Connected nodes and what they lend; this one too. */
  async #candidates(wanted: number, excluded: ReadonlySet<string>): Promise<Candidate[]> {
    const { mesh, host } = this.#parts;
    const deadline = performance.now() + creatorLimits.hintsMs;
    for (;;) {
      const all = candidatesOf(mesh, host).filter((node) => !excluded.has(node.id));
      const heard = mesh.directory
        .nodes()
        .filter((node) => node.connected && node.capacity["memory_free_bytes"] !== undefined);
      const connected = mesh.node.peers().filter((peer) => peer.connected).length + 1;
      const complete = all.length >= wanted || heard.length >= connected;
      if (complete || performance.now() > deadline) return all;
      await new Promise((resolve) => setTimeout(resolve, creatorLimits.pollMs));
    }
  }

  async #reserve(spec: VmSpec): Promise<void> {
    if ((await this.#askAll(spec, false)).includes(true)) throw taken(spec.name);
  }

  /** Whether each connected node knows the name; or, to release it, nothing of interest. */
  async #askAll(spec: VmSpec, release: boolean): Promise<boolean[]> {
    const { mesh } = this.#parts;
    const peers = mesh.node.peers().filter((peer) => peer.connected);
    const ask = async (node: string): Promise<boolean> => {
      try {
        const request = { id: spec.id, name: spec.name, release };
        const limits = { timeoutMs: creatorLimits.reserveMs };
        return (await mesh.node.rpc.call(node, VM_RESERVE, request, limits)).taken;
      } catch {
        return false;
      }
    };
    return await Promise.all([mesh.id, ...peers.map((peer) => peer.id)].map(ask));
  }

  /** Asks all members at once; those that refuse, with their reasons. */
  async #offer(spec: VmSpec, signal: AbortSignal): Promise<Map<string, string>> {
    const refused = new Map<string, string>();
    const request = { spec: encodeSpec(spec) };
    const limits = { signal, timeoutMs: creatorLimits.createMs };
    await Promise.all(
      spec.members.map(async ({ id }) => {
        try {
          await this.#parts.mesh.node.rpc.call(id, VM_CREATE, request, limits);
        } catch (error) {
          refused.set(id, oneLine(error));
        }
      }),
    );
    return refused;
  }

  /** Saves the time of an election; without an answer there will be one. */
  async #lead(spec: VmSpec): Promise<void> {
    const first = spec.members[0]?.id ?? this.#parts.mesh.id;
    const limits = { timeoutMs: creatorLimits.reserveMs };
    await this.#parts.mesh.node.rpc.call(first, VM_LEAD, { id: spec.id }, limits).catch(() => {});
  }

  async #abandon(spec: VmSpec): Promise<void> {
    const { rpc } = this.#parts.mesh.node;
    const limits = { timeoutMs: creatorLimits.reserveMs };
    await Promise.allSettled(
      spec.members.map(({ id }) => rpc.call(id, VM_ABANDON, { id: spec.id }, limits)),
    );
  }

  async #waitLive(spec: VmSpec, options: CreateOptions): Promise<VmView> {
    const { router } = this.#parts;
    const deadline = performance.now() + creatorLimits.liveMs;
    while (performance.now() < deadline && !options.signal.aborted) {
      const statuses = await router.statuses(spec);
      const state = condition(statuses);
      if (state === "running" || state === "ended") return await router.view(spec);
      if (state === "failed") {
        const failure = [...statuses.values()].find((status) => status.failure !== null)?.failure;
        throw cannot("run VM", spec.name, { why: failure ?? "its copies failed" });
      }
      await new Promise((resolve) => setTimeout(resolve, creatorLimits.pollMs));
    }
    const why = `it did not start within ${creatorLimits.liveMs / 1000} s`;
    throw cannot("run VM", spec.name, {
      why,
      remedy: "see: node-mesh status",
      kind: "unavailable",
    });
  }
}

function taken(name: string): Error {
  const remedy = `choose another name, or remove it: node-mesh vm rm ${name}`;
  return cannot("run VM", name, { why: "a VM of that name exists", remedy, kind: "exists" });
}

function tooFew(
  request: VmRequest,
  found: {
    readonly candidates: readonly Candidate[];
    readonly replicas: readonly Candidate[];
    readonly refusals: readonly string[];
  },
): Refusal {
  const { copies, witnesses } = request;
  const wanted = copies + witnesses;
  const said = found.refusals.length === 0 ? "" : ` (${found.refusals.join(", ")})`;
  const size = `${copies} ${copies === 1 ? "copy" : "copies"}, ${witnesses} ${
    witnesses === 1 ? "witness" : "witnesses"
  }`;
  if (found.candidates.length >= wanted) {
    const need = Math.ceil(request.memory_bytes / 2 ** 20);
    const have = found.replicas.length;
    const why = `${copies} nodes with ${need} MiB free are needed, ${have} have it${said}`;
    return { why, remedy: "use a smaller --mem or fewer --copies", kind: "unavailable" };
  }
  const nodes = wanted === 1 ? "node" : "nodes";
  const count = found.candidates.length;
  const why = `it needs ${wanted} ${nodes} (${size}), ${count} ${
    count === 1 ? "is" : "are"
  } connected${said}`;
  const remedy = "let more nodes join (node-mesh ticket), or use --copies 1 --witnesses 0";
  return { why, remedy, kind: "unavailable" };
}

function checkRequest(request: VmRequest): void {
  const { name, copies, witnesses, memory_bytes: memory } = request;
  const refuse = (why: string, remedy: string): never => {
    throw cannot("run VM", name, { why, remedy, kind: "invalid" });
  };
  if (!new RegExp(vmNamePattern).test(name)) {
    refuse("that is no name for a VM", "use 1 to 40 of a-z, 0-9 and -, with no - at either end");
  }
  if (Buffer.byteLength(request.cmdline ?? "") > logLimits.cmdlineBytesMax) {
    refuse(`the command line is longer than ${logLimits.cmdlineBytesMax} bytes`, "shorten it");
  }
  if (copies < 1 || witnesses < 0 || copies + witnesses > limitsOfVm.membersMax) {
    refuse(
      `${copies} copies and ${witnesses} witnesses cannot be had`,
      `use at least 1 copy and at most ${limitsOfVm.membersMax} members in all`,
    );
  }
  const { memoryBytesMin, memoryBytesMax, memoryBytesUnit } = logLimits;
  if (memory < memoryBytesMin || memory > memoryBytesMax || memory % memoryBytesUnit !== 0) {
    refuse(`a memory of ${memory / 2 ** 20} MiB cannot be had`, "use --mem 64 to --mem 65536");
  }
}

function fileTrouble(error: unknown): string {
  const code = (error as { code?: unknown }).code;
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "it is not permitted";
  if (code === "EISDIR") return "it is a directory";
  return oneLine(error);
}

/** Of an Ethernet. */
const networkMtu = 1500;

/** An address of one card that no maker gave out. */
function newMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return bytes.toString("hex").replace(/(..)(?=.)/g, "$1:");
}
