/**
 * The node's log database: entries and hard state of all groups, and a small key-value table.
 * Synchronous; runs in the storage worker (and in tests). A transaction is durable when it returns.
 * It never checkpoints by itself; the owner says when.
 *
 * SQLite is told not to sync its write-ahead log at each commit (synchronous=NORMAL: it still does
 * around checkpoints), because it would call fsync(), which also writes the file's time stamps
 * through the file system's journal. Instead each transaction ends with fdatasync() of that file,
 * which is all that reading it back needs and takes half as long.
 */

import { closeSync, constants, fdatasyncSync, fstatSync, openSync, writeSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { storageLimits } from "../limits.ts";
import { APPLICATION_ID, MIGRATIONS, prepareAll, SCHEMA, SCHEMA_VERSION } from "./_log_sql.ts";
import {
  GROUP_FATES,
  type GroupFate,
  type GroupRow,
  type GroupState,
  type LogCut,
  type PackedEntries,
  type StorageFault,
  type TermRun,
  type WriteOperation,
} from "./types.ts";

const SQLITE_FULL = 13;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;
const SQLITE_IOERR = 10;
const SQLITE_READONLY = 8;
const SQLITE_CANTOPEN = 14;

export class LogDatabaseError extends Error {
  readonly fault: StorageFault;
  constructor(message: string, fault: StorageFault) {
    super(message);
    this.name = "LogDatabaseError";
    this.fault = fault;
  }
}

function faultOf(error: unknown): StorageFault {
  const code = (error as { errcode?: unknown }).errcode;
  if (typeof code !== "number") return "other";
  switch (code & 0xff) {
    case SQLITE_FULL:
      return "full";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "corrupt";
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
      return "io";
    default:
      return "other";
  }
}

const FAULT_TEXT: Record<StorageFault, string> = {
  full: "the disk is full; free some space",
  corrupt: "the file is damaged; remove the data directory to start as a new node",
  io: "the disk reports errors or refuses writes; check the disk and its mount options",
  closed: "it was closed",
  other: "unexpected database error",
};

function asDatabaseError(error: unknown, verb: string, path: string): LogDatabaseError {
  if (error instanceof LogDatabaseError) return error;
  const fault = faultOf(error);
  const detail = error instanceof Error ? error.message : String(error);
  const text = `Cannot ${verb} the log database "${path}": ${FAULT_TEXT[fault]} (${detail})`;
  return new LogDatabaseError(text, fault);
}

type Statements = ReturnType<typeof prepareAll>;
type Row = Record<string, number | string | Uint8Array | null>;
type AppendOperation = WriteOperation & { readonly kind: "append" };

function entryCrc(index: number, term: number, kind: number, data: Uint8Array): number {
  return crc32(data, crc32(`${index},${term},${kind};`));
}

export class LogDatabase {
  readonly path: string;
  readonly #db: DatabaseSync;
  readonly #sql: Statements;
  /** The write-ahead log, by a descriptor of our own; null in a connection that only reads. */
  #wal: number | null = null;
  /** Term of groups' last entries, as far as plain appends of late have told. */
  readonly #lastTerms = new Map<number, number>();

  /** Opens for writing, and creates, if `create` is set. */
  constructor(path: string, options: { create: boolean }) {
    this.path = path;
    try {
      this.#db = new DatabaseSync(path, { timeout: 5_000 });
    } catch (error) {
      throw asDatabaseError(error, "open", path);
    }
    try {
      this.#prepareFile(options.create);
      this.#sql = prepareAll(this.#db);
      if (options.create) this.#openLog();
    } catch (error) {
      this.close();
      throw asDatabaseError(error, "open", path);
    }
  }

  #prepareFile(create: boolean): void {
    const db = this.#db;
    const version = Number(this.#pragma("user_version"));
    if (version === 0 && create) {
      const tables = db.prepare("SELECT count(*) AS n FROM sqlite_master").get() as Row;
      if (tables.n !== 0) throw this.#foreign("it was not made by node-mesh");
      // Space of destroyed groups is given back in small steps; must be set before the first table.
      db.exec("PRAGMA auto_vacuum = INCREMENTAL");
    }
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    db.exec("PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY");
    if (version === 0 && create) {
      db.exec("BEGIN IMMEDIATE");
      db.exec(SCHEMA);
      db.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}`);
      db.exec("COMMIT");
      return;
    }
    if (Number(this.#pragma("application_id")) !== APPLICATION_ID) {
      throw this.#foreign("it was not made by node-mesh");
    }
    if (version < SCHEMA_VERSION && version > 0 && create) {
      db.exec("BEGIN IMMEDIATE");
      for (const step of MIGRATIONS.slice(version - 1)) db.exec(step);
      db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`);
      return;
    }
    if (version !== SCHEMA_VERSION) {
      throw this.#foreign(`it has version ${version}, this program reads ${SCHEMA_VERSION}`);
    }
  }

  /** Zeros behind the last frame are no frames: SQLite ends its reading of the log there. */
  #openLog(): void {
    // Only a transaction makes SQLite create the file.
    this.#db.exec("BEGIN IMMEDIATE; COMMIT");
    const wal = openSync(`${this.path}-wal`, constants.O_RDWR);
    this.#wal = wal;
    const zeros = new Uint8Array(1 << 20);
    let { size } = fstatSync(wal);
    while (size < storageLimits.walReservedBytes) {
      const bytes = Math.min(zeros.length, storageLimits.walReservedBytes - size);
      try {
        size += writeSync(wal, zeros, 0, bytes, size);
      } catch (error) {
        // A disk that is full says so when something is to be stored.
        if ((error as NodeJS.ErrnoException).code === "ENOSPC") break;
        throw error;
      }
    }
    this.#sync();
  }

  #sync(): void {
    if (this.#wal === null) return;
    try {
      fdatasyncSync(this.#wal);
    } catch (error) {
      // What SQLite counts as committed may be lost: nothing that was read is to be believed.
      const why = error instanceof Error ? error.message : String(error);
      throw new LogDatabaseError(
        `Cannot write the log database "${this.path}": ${FAULT_TEXT.io} (${why})`,
        "io",
      );
    }
  }

  #pragma(name: string): unknown {
    const row = this.#db.prepare(`PRAGMA ${name}`).get() as Row | undefined;
    return row === undefined ? undefined : Object.values(row)[0];
  }

  #foreign(why: string): LogDatabaseError {
    return new LogDatabaseError(
      `Cannot open the log database "${this.path}": ${why}; use another data directory`,
      "other",
    );
  }

  #guard<T>(verb: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw asDatabaseError(error, verb, this.path);
    }
  }

  #transaction<T>(work: () => T): T {
    // It may drop entries, or be undone.
    this.#lastTerms.clear();
    return this.#guard("write", () => {
      this.#sql.begin.run();
      try {
        const result = work();
        this.#sql.commit.run();
        this.#sync();
        return result;
      } catch (error) {
        this.#lastTerms.clear();
        if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
        throw error;
      }
    });
  }

  /** One durable transaction for the whole batch. */
  write(operations: readonly WriteOperation[], data: Uint8Array): void {
    const [first] = operations;
    if (operations.length === 1 && first?.kind === "append" && this.#isOneRow(first)) {
      // A single statement is a transaction by itself.
      this.#guard("write", () => {
        this.#append(first, data);
        this.#sync();
      });
      return;
    }
    this.#transaction(() => {
      for (const operation of operations) {
        switch (operation.kind) {
          case "append":
            this.#append(operation, data);
            break;
          case "hard_state": {
            const { term, votedFor, commit, group } = operation;
            this.#sql.hardState.run(term, votedFor, commit, group);
            break;
          }
          case "meta":
            if (operation.value === null) this.#sql.deleteMeta.run(operation.key);
            else this.#sql.putMeta.run(operation.key, operation.value);
            break;
        }
      }
    });
  }

  #isOneRow({ group, truncate, terms }: AppendOperation): boolean {
    return !truncate && terms.length === 1 && terms[0] === this.#lastTerms.get(group);
  }

  #append(operation: AppendOperation, data: Uint8Array): void {
    const { group, from, terms, kinds, lengths } = operation;
    if (operation.truncate) {
      this.#sql.truncate.run(group, from);
      this.#sql.truncateTerms.run(group, from);
      this.#lastTerms.delete(group);
    }
    let runTerm = this.#lastTerms.get(group) ?? this.#storedLastTerm(group);
    let offset = operation.offset;
    for (let n = 0; n < terms.length; n += 1) {
      const term = terms[n]!;
      const kind = kinds[n]!;
      const end = offset + lengths[n]!;
      const bytes = data.subarray(offset, end);
      offset = end;
      if (term !== runTerm) this.#sql.insertTerm.run(group, from + n, term);
      runTerm = term;
      this.#sql.insert.run(
        group,
        from + n,
        term,
        kind,
        entryCrc(from + n, term, kind, bytes),
        bytes,
      );
    }
    this.#lastTerms.set(group, runTerm);
  }

  #storedLastTerm(group: number): number {
    const last = this.#sql.lastTerm.get(group) as Row | undefined;
    return last === undefined ? -1 : (last.t as number);
  }

  create(id: string, members: string, info: Uint8Array): number {
    return this.#transaction(() => (this.#sql.create.get(id, members, info) as Row).g as number);
  }

  /** From here on the group is not held any more; its entries are swept away later. */
  destroy(group: number, fate: GroupFate): void {
    this.#transaction(() => {
      this.#raiseFloor(group);
      this.#sql.destroy.run(GROUP_FATES.indexOf(fate), group);
    });
  }

  /** The log is given up: remembers where it ended, or where one before it did if that is newer. */
  #raiseFloor(group: number): void {
    const row = this.#sql.group.get(group) as Row | undefined;
    if (row === undefined) return;
    const cut = row.cut_index as number;
    const index = Math.max(this.#index(this.#sql.last, group) ?? 0, cut);
    const last = this.#sql.lastTerm.get(group) as Row | undefined;
    const term = Math.max((last?.t as number | undefined) ?? 0, row.cut_term as number);
    const [oldTerm, oldIndex] = [row.floor_term as number, row.floor_index as number];
    if (term < oldTerm || (term === oldTerm && index <= oldIndex)) return;
    this.#sql.floor.run(index, term, group);
  }

  /** A group that was left is held again; only its term and its vote are as they were. */
  revive(group: number, members: string, info: Uint8Array): void {
    this.#transaction(() => this.#sql.revive.run(members, info, group));
  }

  /** A checkpoint stands for the log up to `cut`; `members` are those at that place. */
  cut(group: number, cut: LogCut, members: string): void {
    const { index, term, checkpoint } = cut;
    this.#transaction(() => this.#sql.cut.run(index, term, checkpoint, members, group));
  }

  /** A checkpoint of another member takes the place of everything that is stored. */
  seed(
    group: number,
    seed: { cut: LogCut; members: string; term: number; vote: string | null },
  ): void {
    const { cut, members, term, vote } = seed;
    this.#transaction(() => {
      this.#raiseFloor(group);
      this.#sql.truncate.run(group, 0);
      this.#sql.truncateTerms.run(group, 0);
      this.#sql.cut.run(cut.index, cut.term, cut.checkpoint, members, group);
      this.#sql.seeded.run(term, vote, cut.index, group);
    });
  }

  /** Deletes up to `rowsMax` entries before the cut; false when none are left. */
  sweepCut(group: number, rowsMax: number): boolean {
    const deleted = this.#transaction(() => this.#sql.sweepCut.run(group, rowsMax).changes);
    if (Number(deleted) > 0) return true;
    this.#guard("shrink", () => this.#db.exec("PRAGMA incremental_vacuum(1024)"));
    return false;
  }

  /** Deletes up to `rowsMax` entries of a group; false when none are left. */
  sweep(group: number, rowsMax: number): boolean {
    const deleted = this.#transaction(() => Number(this.#sql.sweep.run(group, rowsMax).changes));
    if (deleted > 0) return true;
    this.#transaction(() => this.#sql.sweepTerms.run(group));
    this.#guard("shrink", () => this.#db.exec("PRAGMA incremental_vacuum(1024)"));
    return false;
  }

  groups(): GroupRow[] {
    return this.#guard("read", () =>
      (this.#sql.groups.all() as Row[]).map((row) => ({
        group: row.g as number,
        id: row.id as string,
        members: row.members as string,
        info: row.info as Uint8Array,
        fate: GROUP_FATES[row.destroyed as number] ?? "destroyed",
      })),
    );
  }

  meta(): { key: string; value: Uint8Array }[] {
    return this.#guard("read", () =>
      (this.#sql.meta.all() as Row[]).map((row) => ({
        key: row.k as string,
        value: row.v as Uint8Array,
      })),
    );
  }

  load(group: number): GroupState {
    return this.#guard("read", () => {
      const row = this.#sql.group.get(group) as Row | undefined;
      if (row === undefined) throw new RangeError(`no group ${group}`);
      const index = row.cut_index as number;
      const checkpoint = row.checkpoint as string | null;
      const cut = checkpoint === null ? null : { index, term: row.cut_term as number, checkpoint };
      return {
        term: row.term as number,
        votedFor: row.vote as string | null,
        commit: row.commit_index as number,
        cut,
        floor:
          row.floor_index === 0
            ? null
            : { index: row.floor_index as number, term: row.floor_term as number },
        firstIndex: index + 1,
        lastIndex: Math.max(this.#index(this.#sql.last, group) ?? 0, index),
        runs: (this.#sql.runs.all(group) as Row[]).map(
          (run): TermRun => ({ index: run.i as number, term: run.t as number }),
        ),
        configs: (this.#sql.configs.all(group, index) as Row[]).map((config) => ({
          index: config.i as number,
          term: config.t as number,
          data: config.d as Uint8Array,
        })),
      };
    });
  }

  #index(statement: StatementSync, group: number): number | undefined {
    return (statement.get(group) as Row | undefined)?.i as number | undefined;
  }

  /** Entries in [from, to), at most `bytesMax` of data but at least one if there is one. */
  read(group: number, from: number, options: { to: number; bytesMax: number }): PackedEntries {
    return this.#guard("read", () => {
      const terms: number[] = [];
      const kinds: number[] = [];
      const parts: Uint8Array[] = [];
      let bytes = 0;
      for (const row of this.#sql.read.iterate(group, from, options.to) as Iterable<Row>) {
        const data = row.d as Uint8Array;
        if (parts.length > 0 && bytes + data.length > options.bytesMax) break;
        this.#verify(group, from + parts.length, row);
        terms.push(row.t as number);
        kinds.push(row.k as number);
        parts.push(data);
        bytes += data.length;
      }
      const data = new Uint8Array(bytes);
      let offset = 0;
      for (const part of parts) {
        data.set(part, offset);
        offset += part.length;
      }
      return { from, terms, kinds, lengths: parts.map((part) => part.length), data };
    });
  }

  #verify(group: number, index: number, row: Row): void {
    const sum = entryCrc(row.i as number, row.t as number, row.k as number, row.d as Uint8Array);
    if (row.i === index && row.c === sum) return;
    throw new LogDatabaseError(
      `Cannot read entry ${index} of group ${group} in "${this.path}": ` +
        "the stored bytes are damaged; remove the data directory to start as a new node",
      "corrupt",
    );
  }

  /** Copies the write-ahead log back without waiting for anybody. */
  checkpoint(): { frames: number; copied: number } {
    return this.#guard("checkpoint", () => {
      const row = this.#db.prepare("PRAGMA wal_checkpoint(PASSIVE)").get() as Row;
      return { frames: Number(row.log), copied: Number(row.checkpointed) };
    });
  }

  close(): void {
    if (this.#wal !== null) closeSync(this.#wal);
    this.#wal = null;
    if (this.#db.isOpen) this.#db.close();
  }
}
