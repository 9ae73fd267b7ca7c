/**
 * Writes initial RAM file systems: the "newc" cpio format that Linux unpacks (described in the
 * kernel's documentation, early-userspace/buffer-format). The same entries give the same bytes
 * on any machine: no times, owners or inode numbers of the host get in.
 */

export type CpioEntry =
  | { readonly kind: "directory"; readonly path: string; readonly mode: number }
  | {
      readonly kind: "file";
      readonly path: string;
      readonly mode: number;
      readonly data: Uint8Array;
    }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | {
      readonly kind: "character_device";
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const typeBits = {
  directory: 0o040000,
  file: 0o100000,
  link: 0o120000,
  character_device: 0o020000,
} as const;

const trailerName = "TRAILER!!!";
/** Linux reads the archive in any size; tools expect whole blocks of 512 bytes. */
const blockBytes = 512;

/** The archive of `entries`, sorted by path so that parents come before what is in them. */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const sorted = [...entries].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const parts: Buffer[] = [];
  let inode = 1;
  for (const entry of sorted) {
    parts.push(...record(entry, inode));
    inode += 1;
  }
  parts.push(...header({ name: trailerName, inode: 0, mode: 0, links: 1, bytes: 0 }));
  const archive = Buffer.concat(parts);
  return Buffer.concat([archive, padding(archive.length, blockBytes)]);
}

function record(entry: CpioEntry, inode: number): Buffer[] {
  const data = contentOf(entry);
  const mode = typeBits[entry.kind] | (entry.kind === "link" ? 0o777 : entry.mode);
  const device = entry.kind === "character_device" ? entry : { major: 0, minor: 0 };
  const links = entry.kind === "directory" ? 2 : 1;
  const fields = { name: entry.path, inode, mode, links, bytes: data.length, device };
  return [...header(fields), data, padding(data.length, 4)];
}

function contentOf(entry: CpioEntry): Buffer {
  if (entry.kind === "file") return Buffer.from(entry.data);
  return Buffer.from(entry.kind === "link" ? entry.target : "");
}

interface HeaderFields {
  readonly name: string;
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly bytes: number;
  readonly device?: { readonly major: number; readonly minor: number };
}

function header(fields: HeaderFields): Buffer[] {
  const name = Buffer.from(`${fields.name}\0`);
  const numbers = [
    fields.inode,
    fields.mode,
    0, // owner
    0, // group
    fields.links,
    0, // time of change
    fields.bytes,
    0, // device the file is on
    0,
    fields.device?.major ?? 0,
    fields.device?.minor ?? 0,
    name.length,
    0, // checksum: unused in this variant
  ];
  const head = Buffer.from(
    `070701${numbers.map((value) => value.toString(16).padStart(8, "0")).join("")}`,
  );
  return [head, name, padding(head.length + name.length, 4)];
}

function padding(length: number, alignment: number): Buffer {
  return Buffer.alloc((alignment - (length % alignment)) % alignment);
}
