/** Stages of a pipeline of byte chunks. */

/** Passes chunks on until there are more bytes than allowed; then it fails. */
export function bytesUpTo(bytesMax: number) {
  return async function* limit(
    chunks: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    let bytes = 0;
    for await (const chunk of chunks) {
      bytes += chunk.length;
      if (bytes > bytesMax) throw new RangeError(`there are more than ${bytesMax} bytes`);
      yield chunk;
    }
  };
}

/** Passes items on; fails when one takes longer than `stallMs` to come. */
export async function* stallLimited<T>(
  items: AsyncIterable<T>,
  stallMs: number,
): AsyncGenerator<T, void, undefined> {
  const iterator = items[Symbol.asyncIterator]();
  try {
    while (true) {
      const next = await inTime(iterator.next(), stallMs);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    // Not awaited: an iterator that stalls would hold its own end up.
    Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

async function inTime<T>(promise: Promise<T>, limitMs: number): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`no byte in ${limitMs} ms`)), limitMs);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
    promise.catch(() => {});
  }
}
