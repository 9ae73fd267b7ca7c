/**
 * Little-endian and variable-length integers with the range of each field checked where it is read.
 * Never reads past its end; the first bad field throws and names itself.
 */

/** The bytes are not a log of this version, or were changed. */
export class LogFormatError extends Error {
  override name = "LogFormatError";
}

const varintBytesMax = 10;

export class ByteReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  fail(field: string, why: string): never {
    throw new LogFormatError(`${field}: ${why} (at byte ${this.#offset})`);
  }

  u8(field: string, most = 0xff): number {
    const value = this.bytes(field, 1)[0] as number;
    if (value > most) this.fail(field, "is out of range");
    return value;
  }

  u32(field: string): number {
    return this.bytes(field, 4).readUInt32LE(0);
  }

  u64(field: string): bigint {
    return this.bytes(field, 8).readBigUInt64LE(0);
  }

  bytes(field: string, count: number): Buffer {
    if (count > this.left) this.fail(field, "is cut off");
    this.#offset += count;
    return this.#bytes.subarray(this.#offset - count, this.#offset);
  }

  /** Unsigned LEB128 in its shortest form. */
  varint(field: string, range: { readonly least?: bigint; readonly most: bigint }): bigint {
    let value = 0n;
    for (let index = 0; ; index += 1) {
      if (index === varintBytesMax) this.fail(field, "is too long");
      const byte = this.u8(field);
      value |= BigInt(byte & 0x7f) << BigInt(7 * index);
      if ((byte & 0x80) !== 0) continue;
      if (byte === 0 && index > 0) this.fail(field, "is not in its shortest form");
      break;
    }
    if (value > range.most || value < (range.least ?? 0n)) this.fail(field, "is out of range");
    return value;
  }

  /** A varint that is exact as a number. */
  small(field: string, most: bigint): number {
    return Number(this.varint(field, { most }));
  }
}
