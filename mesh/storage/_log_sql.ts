/** The tables of the log database, how they came to be so, and all statements on them. */

import type { DatabaseSync } from "node:sqlite";

export const APPLICATION_ID = 0x4e4d4c47; // "NMLG"
export const SCHEMA_VERSION = 2;

// Rows of `terms` are the first index of each run of equal terms, so that the term of any index is
// known without touching entries. `c` is a CRC of index, term, kind and data: SQLite does not
// notice a flipped bit in a page. `destroyed` is the group's fate; `members` are those in force
// before the first entry behind the cut; entries up to the cut may be there still, and count for
// nothing. `floor` is where the newest log ended that was given up.
export const SCHEMA = `
  CREATE TABLE groups (
    g INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, members TEXT NOT NULL,
    info BLOB NOT NULL, term INTEGER NOT NULL DEFAULT 0, vote TEXT,
    commit_index INTEGER NOT NULL DEFAULT 0, destroyed INTEGER NOT NULL DEFAULT 0,
    cut_index INTEGER NOT NULL DEFAULT 0, cut_term INTEGER NOT NULL DEFAULT 0, checkpoint TEXT,
    floor_index INTEGER NOT NULL DEFAULT 0, floor_term INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE TABLE entries (
    g INTEGER NOT NULL, i INTEGER NOT NULL, t INTEGER NOT NULL, k INTEGER NOT NULL,
    c INTEGER NOT NULL, d BLOB NOT NULL, PRIMARY KEY (g, i)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX configs ON entries (g, i) WHERE k = 1;
  CREATE TABLE terms (
    g INTEGER NOT NULL, i INTEGER NOT NULL, t INTEGER NOT NULL, PRIMARY KEY (g, i)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE meta (k TEXT PRIMARY KEY, v BLOB NOT NULL) STRICT, WITHOUT ROWID;
`;

/** From one version to the next, the oldest first. */
export const MIGRATIONS: readonly string[] = [
  `ALTER TABLE groups ADD COLUMN cut_index INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE groups ADD COLUMN cut_term INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE groups ADD COLUMN checkpoint TEXT;
   ALTER TABLE groups ADD COLUMN floor_index INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE groups ADD COLUMN floor_term INTEGER NOT NULL DEFAULT 0;`,
];

export function prepareAll(db: DatabaseSync) {
  return {
    begin: db.prepare("BEGIN IMMEDIATE"),
    commit: db.prepare("COMMIT"),
    insert: db.prepare("INSERT INTO entries (g, i, t, k, c, d) VALUES (?, ?, ?, ?, ?, ?)"),
    truncate: db.prepare("DELETE FROM entries WHERE g = ? AND i >= ?"),
    truncateTerms: db.prepare("DELETE FROM terms WHERE g = ? AND i >= ?"),
    lastTerm: db.prepare("SELECT t FROM terms WHERE g = ? ORDER BY i DESC LIMIT 1"),
    insertTerm: db.prepare("INSERT INTO terms (g, i, t) VALUES (?, ?, ?)"),
    hardState: db.prepare("UPDATE groups SET term = ?, vote = ?, commit_index = ? WHERE g = ?"),
    putMeta: db.prepare("INSERT OR REPLACE INTO meta (k, v) VALUES (?, ?)"),
    deleteMeta: db.prepare("DELETE FROM meta WHERE k = ?"),
    create: db.prepare("INSERT INTO groups (id, members, info) VALUES (?, ?, ?) RETURNING g"),
    destroy: db.prepare(
      "UPDATE groups SET destroyed = ?, members = '[]', info = x'', commit_index = 0, " +
        "cut_index = 0, cut_term = 0, checkpoint = NULL WHERE g = ?",
    ),
    revive: db.prepare("UPDATE groups SET destroyed = 0, members = ?, info = ? WHERE g = ?"),
    cut: db.prepare(
      "UPDATE groups SET cut_index = ?, cut_term = ?, checkpoint = ?, members = ? WHERE g = ?",
    ),
    seeded: db.prepare("UPDATE groups SET term = ?, vote = ?, commit_index = ? WHERE g = ?"),
    floor: db.prepare("UPDATE groups SET floor_index = ?, floor_term = ? WHERE g = ?"),
    sweepCut: db.prepare(
      "DELETE FROM entries WHERE g = ?1 AND i <= (SELECT cut_index FROM groups WHERE g = ?1) " +
        "AND i < (SELECT min(i) FROM entries WHERE g = ?1) + ?2",
    ),
    groups: db.prepare("SELECT g, id, members, info, destroyed FROM groups ORDER BY g"),
    meta: db.prepare("SELECT k, v FROM meta"),
    group: db.prepare(
      "SELECT term, vote, commit_index, cut_index, cut_term, checkpoint, floor_index, " +
        "floor_term FROM groups WHERE g = ?",
    ),
    last: db.prepare("SELECT i FROM entries WHERE g = ? ORDER BY i DESC LIMIT 1"),
    runs: db.prepare("SELECT i, t FROM terms WHERE g = ? ORDER BY i"),
    configs: db.prepare("SELECT i, t, d FROM entries WHERE g = ? AND k = 1 AND i > ? ORDER BY i"),
    read: db.prepare(
      "SELECT i, t, k, c, d FROM entries WHERE g = ? AND i >= ? AND i < ? ORDER BY i",
    ),
    sweep: db.prepare(
      "DELETE FROM entries WHERE g = ?1 AND i < (SELECT min(i) FROM entries WHERE g = ?1) + ?2",
    ),
    sweepTerms: db.prepare("DELETE FROM terms WHERE g = ?"),
  };
}
