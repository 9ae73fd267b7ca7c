/**
 * What the storage worker and the main thread say to each other. Only plain data that can be
 * cloned; bulk bytes travel in one transferred buffer, because a cloned view would copy its whole
 * buffer.
 */

import type { Worker, WorkerOptions } from "node:worker_threads";
import type { EntryKind, VoteFloor } from "../raft/types.ts";

/** How to start the storage worker: from its source file, from a bundle, from an asset. */
export type WorkerSource = (options: WorkerOptions) => Worker;

/** Values in the database: never renumber. */
export const ENTRY_KINDS = ["data", "config", "noop"] as const satisfies readonly EntryKind[];

export type WriteOperation =
  | {
      readonly kind: "append";
      readonly group: number;
      /** Entries from here on are dropped first when `truncate` is set. */
      readonly from: number;
      readonly truncate: boolean;
      readonly terms: readonly number[];
      readonly kinds: readonly number[];
      /** Lengths of the entries' data, which lie one behind the other in the batch's buffer. */
      readonly lengths: readonly number[];
      readonly offset: number;
    }
  | {
      readonly kind: "hard_state";
      readonly group: number;
      readonly term: number;
      readonly votedFor: string | null;
      readonly commit: number;
    }
  | { readonly kind: "meta"; readonly key: string; readonly value: Uint8Array | null };

export interface TermRun {
  /** First index of a run of entries with this term. */
  readonly index: number;
  readonly term: number;
}

export interface GroupRow {
  readonly group: number;
  readonly id: string;
  /** CBOR-free: one member a line would not survive odd ids, so JSON. */
  readonly members: string;
  readonly info: Uint8Array;
  readonly fate: GroupFate;
}

/**
 * `left`: this node is no member any more, and may become one again; its term and vote are kept, so
 * that it does not vote twice then. `destroyed`: there is no such group any more, for ever. Values
 * in the database are the positions: never renumber.
 */
export const GROUP_FATES = ["held", "destroyed", "left"] as const;
export type GroupFate = (typeof GROUP_FATES)[number];

/** A place up to which the log is replaced by a checkpoint. */
export interface LogCut {
  readonly index: number;
  readonly term: number;
  /** Names the checkpoint for the layer above. */
  readonly checkpoint: string;
}

export interface GroupState {
  readonly term: number;
  readonly votedFor: string | null;
  readonly commit: number;
  readonly cut: LogCut | null;
  readonly floor: VoteFloor | null;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly runs: readonly TermRun[];
  /** The stored entries that change the membership; there are few, and they are small. */
  readonly configs: readonly { readonly index: number; readonly term: number; data: Uint8Array }[];
}

/** Entries as they cross threads: `data` holds their bytes one behind the other. */
export interface PackedEntries {
  readonly from: number;
  readonly terms: readonly number[];
  readonly kinds: readonly number[];
  readonly lengths: readonly number[];
  readonly data: Uint8Array;
}

export interface WorkerCalls {
  write: { request: { operations: readonly WriteOperation[]; data: Uint8Array }; result: null };
  create: {
    request: { id: string; members: string; info: Uint8Array };
    result: number;
  };
  destroy: { request: { group: number; fate: GroupFate }; result: null };
  /** A group that was left is held again, with its term and vote. */
  revive: { request: { group: number; members: string; info: Uint8Array }; result: null };
  /** Remembers the cut; the entries before it are deleted later, in steps. */
  cut: { request: { group: number; cut: LogCut; members: string }; result: null };
  /** Replaces the whole log by a checkpoint. */
  seed: {
    request: { group: number; cut: LogCut; members: string; term: number; vote: string | null };
    result: null;
  };
  /** Deletes some entries before a group's cut; false when none are left. */
  sweepCut: { request: { group: number; rowsMax: number }; result: boolean };
  /** Deletes some rows of a destroyed group; false when none are left. */
  sweep: { request: { group: number; rowsMax: number }; result: boolean };
  groups: { request: null; result: readonly GroupRow[] };
  meta: { request: null; result: readonly { key: string; value: Uint8Array }[] };
  load: { request: { group: number }; result: GroupState };
  read: {
    request: { group: number; from: number; to: number; bytesMax: number };
    result: PackedEntries;
  };
  /** Frames in the write-ahead log, and how many of them were copied back. */
  checkpoint: { request: null; result: { frames: number; copied: number } };
  close: { request: null; result: null };
}

export type WorkerCallName = keyof WorkerCalls;

export interface WorkerRequest {
  readonly id: number;
  readonly name: WorkerCallName;
  readonly request: unknown;
}

export type StorageFault = "full" | "corrupt" | "io" | "closed" | "other";

export interface WorkerReply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: { readonly message: string; readonly fault: StorageFault };
}

export interface WorkerSetup {
  readonly path: string;
  readonly role: "writer" | "reader";
  /** One 32-bit count of the requests that were posted: what the worker sleeps on. */
  readonly posted: SharedArrayBuffer;
}
