/**
 * The libp2p node with the mesh's choices: TCP, Noise with the mesh key in its prologue, yamux,
 * identify, gossipsub. No connection without the key; limits against silent or greedy sockets.
 */

import { noise } from "@chainsafe/libp2p-noise";
import { type GossipSub, gossipsub } from "@libp2p/gossipsub";
import { type Identify, identify } from "@libp2p/identify";
import type { ConnectionEncrypter, Libp2p, PeerId, PrivateKey } from "@libp2p/interface";
import { tcp } from "@libp2p/tcp";
import { createLibp2p, type Libp2pOptions } from "libp2p";
import type { Refusals } from "../counters.ts";
import { directoryLimits, transportLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import { sparingNoise, sparingYamux } from "./_sparing.ts";
import type { Gate } from "./gate.ts";
import { noisePrologue } from "./mesh_key.ts";

export type MeshServices = { identify: Identify; pubsub: GossipSub };

export interface Libp2pInit {
  readonly privateKey: PrivateKey;
  readonly meshKey: Uint8Array;
  readonly listen: readonly string[];
  readonly announce: readonly string[];
  readonly refusals: Refusals;
  readonly gate: Gate;
  /** An identity to show a ticket to, before this node knows who the members are. */
  readonly sponsor: () => NodeId | null;
}

type NoiseFactory = ReturnType<typeof noise>;

/** Noise that counts the handshakes that failed: those of strangers. */
function countedNoise(init: Libp2pInit): NoiseFactory {
  const make = sparingNoise(noise({ prologueBytes: noisePrologue(init.meshKey) }));
  return (components) => {
    const inner = make(components);
    const secureInbound = inner.secureInbound.bind(inner);
    inner.secureInbound = (async (connection, options) => {
      try {
        return await secureInbound(connection, options);
      } catch (error) {
        init.refusals.note("handshakes_refused", {}, "Refused a peer without the mesh key");
        throw error;
      }
    }) satisfies ConnectionEncrypter["secureInbound"] as typeof inner.secureInbound;
    return inner;
  };
}

function connectionGater(init: Libp2pInit): NonNullable<Libp2pOptions["connectionGater"]> {
  const { counters } = init.refusals;
  const { gate } = init;
  const refused = (id: NodeId) => {
    if (gate.isMember(id) || gate.mayKnock(id)) return false;
    init.refusals.note("peers_refused", { peer: id }, "Refused a peer that is not a member");
    return true;
  };
  return {
    denyDialMultiaddr: () => false,
    denyDialPeer: (id) => !gate.isMember(id.toString()) && init.sponsor() !== id.toString(),
    denyInboundConnection: () => {
      counters.add("inbound_connections");
      return false;
    },
    denyInboundEncryptedConnection: (id) => refused(id.toString()),
    denyInboundUpgradedConnection: () => {
      counters.add("inbound_admitted");
      return false;
    },
    denyInboundRelayReservation: () => true,
    denyOutboundRelayedConnection: () => true,
  };
}

type PubsubFactory = ReturnType<typeof gossipsub>;
type Registrar = Parameters<PubsubFactory>[0]["registrar"];

/** Gossip with members only: a newcomer that shows its ticket hears and says nothing here. */
function memberGossip(init: Libp2pInit): PubsubFactory {
  const make = gossipsub({
    allowPublishToZeroTopicPeers: true,
    emitSelf: false,
    // Meshes are small: every member hears every announcement at once.
    floodPublish: true,
    doPX: false,
    maxInboundDataLength: 4 * directoryLimits.messageBytesMax,
    // Many nodes behind one address are normal here.
    scoreParams: { IPColocationFactorWeight: 0 },
  });
  const isMember = (id: PeerId) => init.gate.isMember(id.toString());
  return (components) => {
    const { registrar } = components;
    const gated: Registrar = Object.create(registrar, {
      handle: {
        value: ((protocol, handler, options) =>
          registrar.handle(
            protocol,
            (stream, connection) => {
              if (isMember(connection.remotePeer)) return handler(stream, connection);
              stream.abort(new Error("not a member"));
            },
            options,
          )) satisfies Registrar["handle"],
      },
      register: {
        value: ((protocol, topology, options) =>
          registrar.register(
            protocol,
            {
              ...topology,
              onConnect: (id, connection) => {
                if (isMember(id)) topology.onConnect?.(id, connection);
              },
            },
            options,
          )) satisfies Registrar["register"],
      },
    });
    // The components are a proxy, whose fields a copy would not have.
    return make(Object.create(components, { registrar: { value: gated } }));
  };
}

function options(init: Libp2pInit): Libp2pOptions<MeshServices> {
  const limits = transportLimits;
  const socket = { noDelay: true, keepAlive: true };
  return {
    privateKey: init.privateKey,
    start: false,
    addresses: { listen: [...init.listen], appendAnnounce: [...init.announce] },
    transports: [tcp({ dialOpts: socket, listenOpts: socket })],
    connectionEncrypters: [countedNoise(init)],
    streamMuxers: [sparingYamux()],
    connectionGater: connectionGater(init),
    connectionManager: {
      maxConnections: limits.connectionsMax,
      inboundUpgradeTimeout: limits.inboundUpgradeTimeoutMs,
      maxIncomingPendingConnections: limits.inboundPendingMax,
      inboundConnectionThreshold: limits.inboundPerSecondMax,
      dialTimeout: limits.dialTimeoutMs,
      addressDialTimeout: limits.dialTimeoutMs,
      // The mesh redials by itself.
      reconnectRetries: 0,
    },
    connectionMonitor: {
      pingInterval: limits.pingIntervalMs,
      pingTimeout: { minTimeout: limits.pingTimeoutMs, maxTimeout: limits.pingTimeoutMs },
    },
    services: {
      identify: identify(),
      pubsub: memberGossip(init),
    },
  };
}

/** Made and started; throws a clear error when an address can't be listened on. */
export async function startLibp2p(init: Libp2pInit): Promise<Libp2p<MeshServices>> {
  const node = await createLibp2p(options(init));
  try {
    await node.start();
  } catch (error) {
    await node.stop();
    throw listenError(init.listen, error);
  }
  return node;
}

function listenError(listen: readonly string[], error: unknown): Error {
  const text = error instanceof Error ? error.message : String(error);
  const where = listen.join(", ");
  if (text.includes("EADDRINUSE")) {
    return new Error(
      `Cannot listen on "${where}": the port is in use; stop the other program or choose another`,
    );
  }
  if (text.includes("EACCES")) {
    return new Error(`Cannot listen on "${where}": not permitted; choose a port above 1023`);
  }
  if (text.includes("EADDRNOTAVAIL")) {
    return new Error(`Cannot listen on "${where}": this machine does not have that address`);
  }
  return new Error(`Cannot listen on "${where}": ${text.split("\n").slice(0, 2).join(" ")}`);
}
