/** What the local API says about this node and the mesh it is in. */
import type { FastifyInstance } from "fastify";
import type { Daemon } from "../daemon/daemon.ts";
import { version } from "../version.ts";
import { NodesSchema, type NodeView, type Status, StatusSchema, TicketSchema } from "./schemas.ts";

export function nodeRoutes(
  app: FastifyInstance,
  daemon: Daemon,
  options: { readonly dataDir: string },
): void {
  app.get("/v1/status", { schema: { response: { 200: StatusSchema } } }, () =>
    statusOf(daemon, options.dataDir),
  );
  app.get("/v1/nodes", { schema: { response: { 200: NodesSchema } } }, () => ({
    nodes: nodesOf(daemon),
  }));
  app.get("/v1/ticket", { schema: { response: { 200: TicketSchema } } }, () => ({
    ticket: daemon.mesh.ticket(),
  }));
}

function statusOf(daemon: Daemon, dataDir: string): Status {
  const { mesh, host } = daemon;
  const peers = mesh.node.peers();
  return {
    id: mesh.id,
    name: mesh.name,
    version,
    pid: process.pid,
    started_ms: daemon.startedMs,
    data: dataDir,
    addresses: mesh.node.addresses(),
    peers: peers.length,
    peers_connected: peers.filter((peer) => peer.connected).length,
    copies: host.all().map((vm) => {
      const { role, state, isLeader, chunkCount } = vm.status();
      return { name: vm.spec.name, role, state, leader: isLeader, chunks: chunkCount };
    }),
    memory_free_bytes: host.memoryFreeBytes(),
    memory_used_bytes: process.memoryUsage().rss,
    counters: mesh.counters.snapshot(),
  };
}

/** This node, those it is connected to or has heard of, and those it only knows by address. */
function nodesOf(daemon: Daemon): NodeView[] {
  const { mesh, router } = daemon;
  const peers = new Map(mesh.node.peers().map((peer) => [peer.id, peer]));
  const hints = mesh.directory.nodes();
  const vms = mesh.directory.vms();
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
  return known
    .map((node) => ({
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
    }))
    .sort((a, b) => Number(b.self) - Number(a.self) || (a.name < b.name ? -1 : 1));
}
