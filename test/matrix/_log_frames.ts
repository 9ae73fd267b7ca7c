/** Where the frames of a log file begin: the outer format alone, for tests that damage logs. */

const magicBytes = 8;
const frameHeadBytes = 12;
const checksumBytes = 4;

export const frameTypes = { header: 1, image: 2, chunk: 3, end: 4 } as const;

export interface LogFrame {
  readonly type: number;
  readonly offset: number;
  readonly bytes: number;
}

export function logFrames(log: Buffer): LogFrame[] {
  const frames: LogFrame[] = [];
  for (let offset = magicBytes; offset < log.length; ) {
    const bytes = frameHeadBytes + log.readUInt32LE(offset + 4) + checksumBytes;
    frames.push({ type: log.readUInt8(offset), offset, bytes });
    offset += bytes;
  }
  return frames;
}
