/**
 * The client of a node's local API, for the command line. Says in one line when there is no node to
 * talk to. Holds no connection between calls.
 */
import { type IncomingMessage, request } from "node:http";
import { Readable } from "node:stream";
import { membershipLimits } from "../../mesh/limits.ts";
import { type MeshRole, meshRoles } from "../../mesh/membership/roles.ts";
import type { PlacementRow } from "../daemon/placement_view.ts";
import { cannot, UserError } from "../user_error.ts";
import { readEvents, readLines } from "./ndjson.ts";
import { errorOf } from "./problem.ts";
import type {
  ConsoleLine,
  CreateLine,
  Input,
  LoginLink,
  MeshEvent,
  NodeView,
  Problem,
  Status,
  VmHistory,
  VmRequest,
  VmView,
} from "./schemas.ts";
import type { TicketOrder, TicketView } from "./schemas_membership.ts";
import { apiSocketPath } from "./socket_path.ts";

/** The node does not answer at all: it is down, or was killed while it answered. */
export class NodeGoneError extends UserError {
  override name = "NodeGoneError";
}

/** An answer that is no stream must be there by then. */
const answerMs = 120_000;
const answerBytesMax = 64 * 1024 * 1024;

interface Call {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE";
  readonly body?: object;
  readonly signal?: AbortSignal | undefined;
  readonly accept?: string;
  /** Of an answer that takes longer than others may. */
  readonly answerMs?: number;
}

export class ApiClient {
  readonly #dataDir: string;

  constructor(dataDir: string) {
    this.#dataDir = dataDir;
  }

  status(): Promise<Status> {
    return this.#json("/v1/status");
  }

  nodes(): Promise<NodeView[]> {
    return this.#pages("/v1/nodes", (page: { nodes: NodeView[] }) => page.nodes);
  }

  /** A new ticket; without an order one for any number of nodes with all roles, for a day. */
  async ticket(order: Partial<TicketOrder> = {}): Promise<string> {
    const body = { roles: meshRoles, uses: 0, life_ms: membershipLimits.ticketLifeMs, ...order };
    const call = { method: "POST", body } as const;
    return (await this.#json<{ ticket: string }>("/v1/tickets", call)).ticket;
  }

  async tickets(): Promise<TicketView[]> {
    return (await this.#json<{ tickets: TicketView[] }>("/v1/tickets")).tickets;
  }

  async revokeTicket(id: string): Promise<void> {
    await this.#json(`/v1/tickets/${encodeURIComponent(id)}`, { method: "DELETE" });
  }

  async setRoles(node: string, roles: readonly MeshRole[]): Promise<void> {
    const path = `/v1/nodes/${encodeURIComponent(node)}/roles`;
    await this.#json(path, { method: "PUT", body: { roles } });
  }

  async removeNode(node: string): Promise<void> {
    await this.#json(`/v1/nodes/${encodeURIComponent(node)}`, { method: "DELETE" });
  }

  vms(): Promise<VmView[]> {
    return this.#pages("/v1/vms", (page: { vms: VmView[] }) => page.vms);
  }

  history(name: string): Promise<VmHistory> {
    return this.#json(`${vmPath(name)}/history`);
  }

  /** An address that signs a browser in, once. */
  loginLink(): Promise<LoginLink> {
    return this.#json("/v1/login-links", { method: "POST", body: {} });
  }

  /** The newest events of the node. */
  async recentEvents(): Promise<MeshEvent[]> {
    return (await this.#json<{ events: MeshEvent[] }>("/v1/events?follow=false")).events;
  }

  /** Events as they come, behind the one with the id `after`. */
  async *events(options: {
    readonly after?: string | undefined;
    readonly signal: AbortSignal;
  }): AsyncGenerator<MeshEvent> {
    const { after, signal } = options;
    const query = after === undefined ? "" : `?last_event_id=${encodeURIComponent(after)}`;
    const response = await this.#request(`/v1/events${query}`, { signal });
    try {
      yield* readEvents(response) as AsyncGenerator<MeshEvent>;
    } catch (error) {
      if (signal.aborted) return;
      throw this.#gone(trouble(error as Error));
    } finally {
      response.destroy();
    }
    if (!signal.aborted) throw this.#gone("it ended while it answered");
  }

  vm(name: string): Promise<VmView> {
    return this.#json(vmPath(name));
  }

  /** Moves the member on `from` (the primary, if null) to another node (the best, if null). */
  async move(
    name: string,
    body: { readonly to: string | null; readonly from: string | null },
    options: { readonly onProgress?: (text: string) => void; readonly signal?: AbortSignal } = {},
  ): Promise<VmView> {
    const { signal, onProgress } = options;
    const path = `${vmPath(name)}/move`;
    const call = { method: "POST", body, signal } as const;
    for await (const line of this.#lines<CreateLine>(path, call)) {
      if ("progress" in line) onProgress?.(line.progress);
      else if ("problem" in line) throw errorOf(line.problem);
      else return line.vm;
    }
    throw this.#gone("it ended while it answered");
  }

  /** How each node ranks for a VM, and why. */
  async placement(name: string): Promise<PlacementRow[]> {
    return (await this.#json<{ nodes: PlacementRow[] }>(`${vmPath(name)}/placement`)).nodes;
  }

  async drain(node: string, drain: boolean): Promise<void> {
    const path = `/v1/nodes/${encodeURIComponent(node)}/drain`;
    await this.#json(path, { method: "PUT", body: { drain } });
  }

  /** The names of the VMs that a node still runs a part of. */
  async vmsOf(node: string): Promise<string[]> {
    const path = `/v1/nodes/${encodeURIComponent(node)}/vms`;
    return (await this.#json<{ vms: string[] }>(path)).vms;
  }

  /** `forced`: the guest did not switch itself off within `timeoutSeconds`. */
  async stop(
    name: string,
    options: { readonly timeoutSeconds: number },
  ): Promise<{ readonly forced: boolean }> {
    const { timeoutSeconds } = options;
    const path = `${vmPath(name)}/stop?timeout_s=${timeoutSeconds}`;
    return await this.#json(path, {
      method: "POST",
      body: {},
      answerMs: answerMs + timeoutSeconds * 1000,
    });
  }

  async remove(name: string): Promise<void> {
    await this.#json(vmPath(name), { method: "DELETE" });
  }

  /** Resolves when the input is committed. */
  async input(name: string, body: Input, options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#json(`${vmPath(name)}/input`, { method: "POST", body, ...options });
  }

  async create(
    body: VmRequest,
    options: { readonly onProgress: (text: string) => void; readonly signal?: AbortSignal },
  ): Promise<VmView> {
    const { signal } = options;
    const accept = "application/x-ndjson";
    const lines = this.#lines<CreateLine>("/v1/vms", { method: "POST", body, signal, accept });
    for await (const line of lines) {
      if ("progress" in line) options.onProgress(line.progress);
      else if ("problem" in line) throw errorOf(line.problem);
      else return line.vm;
    }
    throw this.#gone("it ended while it answered");
  }

  /** Console output from `offset` on, as the node sends it. */
  async *console(
    name: string,
    query: { readonly offset: number; readonly follow: boolean; readonly signal?: AbortSignal },
  ): AsyncGenerator<{ readonly offset: number; readonly bytes: Buffer; readonly closed: boolean }> {
    const { offset, follow, signal } = query;
    const path = `${vmPath(name)}/console?offset=${offset}&follow=${follow}`;
    for await (const line of this.#lines<ConsoleLine>(path, { signal })) {
      if ("problem" in line) throw errorOf(line.problem);
      const bytes = Buffer.from(line.data, "base64");
      yield { offset: line.offset, bytes, closed: line.closed };
    }
  }

  async #pages<P extends object, T>(path: string, rowsOf: (page: P) => T[]): Promise<T[]> {
    const rows: T[] = [];
    let query = "";
    for (;;) {
      const page = await this.#json<P & { next: string | null }>(`${path}${query}`);
      rows.push(...rowsOf(page));
      if (page.next === null) return rows;
      query = `?cursor=${encodeURIComponent(page.next)}`;
    }
  }

  async #json<T>(path: string, call: Call = {}): Promise<T> {
    const limit = AbortSignal.timeout(call.answerMs ?? answerMs);
    const signal = call.signal === undefined ? limit : AbortSignal.any([limit, call.signal]);
    const response = await this.#request(path, { ...call, signal });
    return JSON.parse(await this.#text(response)) as T;
  }

  async *#lines<T>(path: string, call: Call): AsyncGenerator<T> {
    const response = await this.#request(path, call);
    try {
      yield* readLines(response) as AsyncGenerator<T>;
    } catch (error) {
      if (error instanceof UserError || call.signal?.aborted === true) throw error;
      throw this.#gone("it ended while it answered");
    } finally {
      response.destroy();
    }
  }

  async #request(path: string, call: Call): Promise<IncomingMessage> {
    const response = await this.#send(path, call);
    const status = response.statusCode ?? 500;
    if (status < 400) return response;
    const text = await this.#text(response);
    let problem: Problem;
    try {
      problem = JSON.parse(text) as Problem;
    } catch {
      throw this.#gone(`it answered with status ${status}`);
    }
    throw errorOf(problem);
  }

  #send(path: string, call: Call): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      let socket: ReturnType<typeof apiSocketPath>;
      try {
        socket = apiSocketPath(this.#dataDir);
      } catch {
        reject(this.#gone("no node has used that data directory"));
        return;
      }
      const body = call.body === undefined ? null : JSON.stringify(call.body);
      const outgoing = request({
        socketPath: socket.path,
        path,
        method: call.method ?? "GET",
        agent: false,
        headers: {
          ...(body === null ? {} : { "content-type": "application/json" }),
          ...(call.accept === undefined ? {} : { accept: call.accept }),
        },
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      });
      outgoing.once("socket", (stream) => stream.once("connect", () => socket.release()));
      outgoing.once("response", resolve);
      outgoing.once("error", (error: NodeJS.ErrnoException) => {
        reject(call.signal?.aborted === true ? error : this.#gone(trouble(error)));
      });
      outgoing.end(body ?? undefined);
    });
  }

  async #text(response: IncomingMessage): Promise<string> {
    const parts: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const part of Readable.from(response)) {
        bytes += (part as Buffer).length;
        if (bytes > answerBytesMax) throw new RangeError("its answer is too long");
        parts.push(part as Buffer);
      }
    } catch (error) {
      throw this.#gone(trouble(error as Error));
    }
    return Buffer.concat(parts).toString("utf8");
  }

  #gone(why: string): NodeGoneError {
    const remedy = "start one with: node-mesh up (or say which node with --data)";
    const { message } = cannot("reach the node of", this.#dataDir, { why, remedy });
    return new NodeGoneError(message, { kind: "unavailable" });
  }
}

function vmPath(name: string): string {
  return `/v1/vms/${encodeURIComponent(name)}`;
}

function trouble(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "ENOENT":
    case "ECONNREFUSED":
      return "it is not running";
    case "EACCES":
      return "it belongs to another user";
    case "ECONNRESET":
    case "EPIPE":
      return "it ended while it answered";
    default:
      return error.message;
  }
}
