/** Reads a forced stop of user code, a kind of event described in native/replay/log_schema.h. */
import type { ByteReader } from "./_byte_reader.ts";

const pageBytes = 4096;
const u16Max = 0xffffn;
const u32Max = 0xffff_ffffn;
const u64Max = (1n << 64n) - 1n;
const gfnMax = 1n << 25n;
const pagesMax = 32n;
const rflagsMask = 0x257fd7n;
const userSegment = { present: 0x80, privilege: 0x60, notSystem: 0x10, executable: 0x08 } as const;
/** The x87 image's own bytes and the XMM registers. */
const fpuBytes = 24 + 128 + 256;

export interface PreemptedState {
  /** RAX RCX RDX RBX RSP RBP RSI RDI R8-R15 */
  readonly registers: readonly bigint[];
  readonly rip: bigint;
  readonly rflags: bigint;
  /** ES CS SS DS FS GS */
  readonly segments: readonly PreemptedSegment[];
  readonly fpu: Buffer;
  readonly mxcsr: number;
}

export interface PreemptedSegment {
  readonly selector: number;
  readonly base: bigint;
  readonly limit: number;
  readonly attributes: number;
}

export interface PreemptBody {
  readonly kind: "preempt";
  /** Of the last part; null: more parts follow. */
  readonly state: PreemptedState | null;
  readonly pages: readonly { readonly gfn: number; readonly bytes: Buffer }[];
}

export function readPreempt(reader: ByteReader): PreemptBody {
  const state = reader.u8("preempt.part", 1) === 1 ? readState(reader) : null;
  const least = state === null ? 1n : 0n;
  const count = Number(reader.varint("preempt.pages", { least, most: pagesMax }));
  let next = 0n;
  const pages = Array.from({ length: count }, () => {
    const gfn = next + reader.varint("preempt.page", { most: gfnMax });
    if (gfn > gfnMax) reader.fail("preempt.page", "is out of range");
    next = gfn + 1n;
    return { gfn: Number(gfn), bytes: reader.bytes("preempt.page.bytes", pageBytes) };
  });
  return { kind: "preempt", state, pages };
}

function readState(reader: ByteReader): PreemptedState {
  const any = (field: string) => reader.varint(field, { most: u64Max });
  const registers = Array.from({ length: 16 }, () => any("preempt.register"));
  const rip = any("preempt.rip");
  const top = rip >> 47n;
  if (top !== 0n && top !== 0x1ffffn) reader.fail("preempt.rip", "is not canonical");
  const rflags = any("preempt.rflags");
  if ((rflags & ~rflagsMask) !== 0n || (rflags & 2n) === 0n) {
    reader.fail("preempt.rflags", "holds what RFLAGS cannot");
  }
  const segments = Array.from({ length: 6 }, () => ({
    selector: reader.small("preempt.segment.selector", u16Max),
    base: any("preempt.segment.base"),
    limit: reader.small("preempt.segment.limit", u32Max),
    attributes: reader.small("preempt.segment.attributes", u16Max),
  }));
  if (!isUserSegment(segments[1], true) || !isUserSegment(segments[2], false)) {
    reader.fail("preempt.segment", "is not one of user mode");
  }
  const fpu = reader.bytes("preempt.fpu", fpuBytes);
  const mxcsr = reader.u32("preempt.mxcsr");
  if (mxcsr > Number(u16Max)) reader.fail("preempt.mxcsr", "has reserved bits set");
  return { registers, rip, rflags, segments, fpu, mxcsr };
}

function isUserSegment(segment: PreemptedSegment | undefined, code: boolean): boolean {
  if (segment === undefined) return false;
  const user = userSegment.present | userSegment.privilege | userSegment.notSystem;
  return (
    (segment.selector & 3) === 3 &&
    (segment.attributes & user) === user &&
    ((segment.attributes & userSegment.executable) !== 0) === code
  );
}
