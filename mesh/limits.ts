/**
 * Every bound of the mesh in one place: what it bounds, why that much, and what happens at the cap.
 * A queue, frame, retry or time-out that has no line here is a bug.
 */

const KIB = 1024;
const MIB = 1024 * KIB;

export const storageLimits = {
  /**
   * Newest entries of a group kept in memory; older ones are read from the database. As much as a
   * primary may run ahead of its backups, so that normal lag costs no reads.
   */
  tailBytesMax: 4 * MIB,
  /** The same for a group without appends for `tailIdleMs`: many idle groups must cost little. */
  idleTailBytesMax: 64 * KIB,
  tailIdleMs: 10_000,
  /** One read of older entries. Larger reads delay the next ones; smaller ones cost round trips. */
  readBytesMax: 1 * MIB,
  /** Ranges of old entries held for followers that catch up; the oldest one is dropped. */
  coldRangesMax: 3,
  /** One transaction. What is more waits for the next, so that a commit stays short. */
  batchBytesMax: 8 * MIB,
  /** Bytes written after which the write-ahead log is copied back, in the reading worker. */
  checkpointAfterBytes: 4 * MIB,
  /** Made at the start: a commit that has to make the file longer takes twice as long. */
  walReservedBytes: 5 * MIB,
  /** Write-ahead log beyond which the writer itself finishes a checkpoint that never caught up. */
  walBytesMax: 64 * MIB,
  /** How late a commit index may reach the disk (it only saves work after a restart). */
  commitFlushMs: 1_000,
  /** Rows of a destroyed group deleted in one go, so that other groups' commits are not held up. */
  deleteRowsMax: 64,
  /** A value of the small key-value table. Larger things are blobs. */
  metaValueBytesMax: 1 * MIB,
  /** Opaque description stored with a group. */
  groupInfoBytesMax: 256 * KIB,
  /** Groups of one node, tombstones included; a further one is refused. */
  groupsMax: 100_000,
} as const;

export const transportLimits = {
  /** A control frame: heartbeats of all groups to one peer. 1000 groups take about 90 KiB. */
  controlFrameBytesMax: 1 * MIB,
  /**
   * A bulk frame: one append message. The core bounds an entry to 256 KiB and a message to 1 MiB.
   */
  bulkFrameBytesMax: 4 * MIB,
  /** Bytes to one peer that were sent and not yet consumed there. Bounds the receiver's memory. */
  bulkCreditBytes: 1 * MIB,
  /**
   * Bytes that a receiver has worked off before it gives credit for them, or else after so long:
   * a frame of credit for each small append would double what a commit costs.
   */
  bulkCreditStepBytes: 128 * KIB,
  bulkCreditStepMs: 100,
  /** Bytes waiting for credit. What is more is refused; the core sends it again later. */
  bulkQueueBytesMax: 8 * MIB,
  /** Control bytes a peer may leave unread before further frames are dropped (it is stalled). */
  controlQueueBytesMax: 2 * MIB,
  /** Bytes that libp2p may hold for one of our streams; beyond it resets the stream. */
  streamWriteBufferBytesMax: 16 * MIB,
  /** From the first stream to both ends having said hello; a silent peer is dropped. */
  linkHandshakeMs: 5_000,
  /** Dial of one peer. */
  dialTimeoutMs: 5_000,
  /** Redial: first pause, growth and cap, times 0.5-1.5 at random. */
  redialFirstMs: 200,
  redialFactor: 1.6,
  redialMaxMs: 5_000,
  /** The peer with the higher id leaves the first dial to the other one for this long. */
  redialCourtesyMs: 300,
  /** A peer not seen for this long (e.g. reinstalled) is dialled only each `redialLostMs`. */
  peerLostMs: 10 * 60_000,
  redialLostMs: 60_000,
  /** Known peers; a further one pushes out the one that was seen least recently. */
  peersMax: 1_024,
  /** Addresses kept for a peer. */
  peerAddrsMax: 16,
  /** An address as text. */
  addrCharsMax: 256,
  /** Pings that notice a peer that is alive as a socket only (stopped process, dead link). */
  pingIntervalMs: 2_000,
  pingTimeoutMs: 4_000,
  /** A connection that does not finish its handshake; silent sockets would hold their place. */
  inboundUpgradeTimeoutMs: 3_000,
  inboundPendingMax: 100,
  /** Connections a second from one address. High: several nodes may share a NAT or a host. */
  inboundPerSecondMax: 100,
  connectionsMax: 2_000,
  /** Warnings a second about refused peers; the counters count all of them. */
  refusalLogPerMinuteMax: 6,
} as const;

export const rpcLimits = {
  requestBytesMax: 1 * MIB,
  responseBytesMax: 4 * MIB,
  /** One item of a streamed response. With the credit that may be owed it must fit the window. */
  itemBytesMax: 512 * KIB,
  /** Bytes of a streamed response that were sent and not yet taken by the caller. */
  streamCreditBytes: 1 * MIB,
  /** Bytes taken before credit is given: few messages, and never a standstill. */
  streamCreditStepBytes: 256 * KIB,
  /** How long `stop` waits for handlers that do not heed their signal. */
  stopWaitMs: 2_000,
  timeoutMs: 10_000,
  /** Requests of one peer at a time; further streams are reset by libp2p. */
  inboundPerPeerMax: 256,
  /** The same of a newcomer, which has one thing to ask. */
  knocksPerPeerMax: 2,
  errorCharsMax: 1_000,
} as const;

export const groupLimits = {
  /** The period of every group's clock on a node. */
  tickMs: 100,
  /** A tick that comes this late means that this process stood still: do not campaign at once. */
  stallMs: 500,
  /** After the connection to a leader closed: pause before a pre-vote, random between the two. */
  fastElectionMinMs: 50,
  fastElectionMaxMs: 200,
  /** The votes were split: pause before the next try, far wider than an election takes. */
  fastElectionAgainMinMs: 150,
  fastElectionAgainMaxMs: 450,
  /** After that the normal time-out rules. */
  fastElectionTriesMax: 4,
  /** Committed entries handed to a handler at once. */
  deliveryEntriesMax: 256,
  deliveryBytesMax: 1 * MIB,
  /** Committed entries waiting in memory for a busy handler; later they are read from storage. */
  deliveryQueueBytesMax: 2 * MIB,
  groupIdCharsMax: 128,
  membersMax: 16,
  /** Samples kept for commit latency. */
  latencySamples: 512,
} as const;

export const blobLimits = {
  /** One blob: a disk image is the largest thing expected. */
  blobBytesMax: 64 * 1024 * MIB,
  /** Read, hashed and sent at once; hashing it takes well under a millisecond. */
  chunkBytes: 256 * KIB,
  /** No chunk for this long: this source is given up and the next one asked. */
  stallMs: 15_000,
  /** Time to answer whether a blob is there. */
  askTimeoutMs: 3_000,
  /** Transfers under way with one peer; further ones wait in libp2p or fail and are tried again. */
  inboundPerPeerMax: 16,
} as const;

export const directoryLimits = {
  messageBytesMax: 48 * KIB,
  announceMinMs: 1_000,
  announceMaxMs: 5_000,
  /** A hint that was not repeated for this long is dropped: three announcements were missed. */
  expireMs: 16_000,
  nodesMax: 1_024,
  vmsPerNodeMax: 256,
} as const;

export const membershipLimits = {
  /** One statement about the membership, and the same with its signature. */
  factBytesMax: 2 * KIB,
  signedFactBytesMax: 3 * KIB,
  /** All statements of a mesh; they fit one answer. Beyond it no node joins any more. */
  factsMax: 4_096,
  /** Tickets that still let somebody in; a further one is not made. */
  openTicketsMax: 256,
  ticketUsesMax: 1_000_000,
  /** A ticket is good for a day unless it is told otherwise, and never longer than ten years. */
  ticketLifeMs: 24 * 3_600_000,
  ticketLifeMsMax: 10 * 365 * 24 * 3_600_000,
  /** How often a member is asked for facts that were missed. */
  askEveryMs: 60_000,
  /** A removed node is told so before its connections are cut; its requests are refused at once. */
  farewellMs: 500,
  /** A connection of a newcomer; it only has to show its ticket. */
  knockMs: 10_000,
  /** Newcomers at a time; a further one is refused and may try again. */
  knockingMax: 16,
} as const;
