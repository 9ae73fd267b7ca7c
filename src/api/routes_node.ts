/** What the API says about this node and the mesh it is in. */
import { existsSync } from "node:fs";
import { Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { domainsOf } from "../daemon/candidates.ts";
import type { DaemonParts } from "../daemon/daemon.ts";
import { version } from "../version.ts";
import { operation } from "./operation.ts";
import {
  NodesSchema,
  type NodeView,
  type PageQuery,
  PageQuerySchema,
  pageOf,
  type Status,
  StatusSchema,
} from "./schemas.ts";

export interface NodeFacts {
  readonly dataDir: string;
  /** Where the API listens on TCP. */
  readonly apiUrl: () => string | null;
}

export function nodeRoutes(app: FastifyInstance, daemon: DaemonParts, facts: NodeFacts): void {
  const node = { tag: "node" } as const;
  const status = operation({
    ...node,
    id: "getStatus",
    summary: "What this node is doing",
    answers: { 200: { says: "This node.", schema: StatusSchema } },
  });
  app.get("/v1/status", status, () => statusOf(daemon, facts));
  const nodes = operation({
    ...node,
    id: "listNodes",
    summary: "The nodes of the mesh that this one knows",
    querystring: PageQuerySchema,
    answers: { 200: { says: "A page of nodes, this one first.", schema: NodesSchema } },
  });
  app.get<{ Querystring: PageQuery }>("/v1/nodes", nodes, (request) => {
    const page = pageOf(
      nodesOf(daemon),
      request.query,
      ({ self, name, id }) => `${self ? 0 : 1} ${name} ${id}`,
    );
    return { nodes: page.rows, next: page.next };
  });
  const metrics = operation({
    ...node,
    id: "getMetrics",
    summary: "Metrics in the text format of Prometheus",
    answers: { 200: { says: "All metrics.", type: "text/plain", schema: Type.String() } },
  });
  app.get("/metrics", metrics, async (_request, reply) => {
    const { metrics: all } = daemon.observatory;
    return reply.type(all.contentType).send(await all.text());
  });
}

function statusOf(daemon: DaemonParts, facts: NodeFacts): Status {
  const { mesh, host } = daemon;
  const peers = mesh.node.peers();
  return {
    id: mesh.id,
    name: mesh.name,
    version,
    pid: process.pid,
    started_ms: daemon.startedMs,
    data: facts.dataDir,
    addresses: mesh.node.addresses(),
    api: facts.apiUrl(),
    peers: peers.length,
    peers_connected: peers.filter((peer) => peer.connected).length,
    copies: host.all().map((vm) => {
      const { role, state, isLeader, term, chunkCount } = vm.status();
      return { name: vm.spec.name, role, state, leader: isLeader, term, chunks: chunkCount };
    }),
    memory_free_bytes: host.memoryFreeBytes(),
    memory_used_bytes: memoryUsedBytes(),
    counters: mesh.counters.snapshot(),
  };
}

/** This node, those it is connected to or has heard of, and those it only knows by address. */
function nodesOf(daemon: DaemonParts): NodeView[] {
  const { mesh, router } = daemon;
  const peers = new Map(mesh.node.peers().map((peer) => [peer.id, peer]));
  const hints = mesh.directory.nodes();
  const vms = mesh.directory.vms();
  const domains = domainsOf(mesh);
  const heard = new Set(hints.map((hint) => hint.id));
  const unheard = [...peers.keys(), mesh.id].filter((id) => !heard.has(id));
  const known = [
    ...hints,
    ...unheard.map((id) => ({
      id,
      name: id === mesh.id ? mesh.name : router.nameOf(id),
      addrs: id === mesh.id ? mesh.node.addresses() : (peers.get(id)?.addrs ?? []),
      version: id === mesh.id ? version : null,
      capacity: {} as Record<string, number>,
    })),
  ];
  return known.map((node) => ({
    id: node.id,
    name: node.name,
    self: node.id === mesh.id,
    connected: router.isConnected(node.id),
    addresses: [...node.addrs],
    version: node.version ?? null,
    memory_bytes: node.capacity?.["memory_bytes"] ?? 0,
    memory_free_bytes: node.capacity?.["memory_free_bytes"] ?? 0,
    cpus: node.capacity?.["cpus"] ?? 0,
    load_percent: node.capacity?.["load_percent"] ?? 0,
    vms: vms.filter((vm) => vm.node === node.id).length,
    rtt_ms: peers.get(node.id)?.rttMs ?? null,
    domain: domains.get(node.id) ?? null,
  }));
}

/** Of this process; where there is no /proc, the most that it ever used. */
function memoryUsedBytes(): number {
  if (existsSync("/proc/self/stat")) return process.memoryUsage.rss();
  return process.resourceUsage().maxRSS * 1024;
}
