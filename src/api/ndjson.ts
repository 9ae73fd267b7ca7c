/** Streams of JSON objects, one a line, with the reader's pace as back-pressure. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { apiLimits } from "./schemas.ts";

/** A line longer than this is no line of ours. */
const lineBytesMax = 1024 * 1024;

/** Sends each object as a line, until the end, or until the reader has left. */
export async function sendLines(
  response: ServerResponse,
  lines: AsyncIterable<object>,
  signal: AbortSignal,
): Promise<void> {
  response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
  response.flushHeaders();
  for await (const line of lines) {
    if (signal.aborted) return;
    await writeAll(response, { text: `${JSON.stringify(line)}\n`, signal });
    if (signal.aborted) return;
  }
  response.end();
}

/** Resolves when the reader has room for more; a reader that takes nothing in is left alone. */
export async function writeAll(
  response: ServerResponse,
  piece: { readonly text: string; readonly signal: AbortSignal },
): Promise<void> {
  if (response.write(piece.text)) return;
  const stalled = AbortSignal.timeout(apiLimits.streamStallMs);
  await once(response, "drain", { signal: AbortSignal.any([piece.signal, stalled]) }).catch(() => {
    response.destroy();
  });
}

/** The objects of such a stream. */
export async function* readLines(stream: AsyncIterable<Buffer>): AsyncGenerator<unknown> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const piece of stream) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > lineBytesMax) throw new RangeError("a line of the answer is too long");
    for (const line of lines) {
      if (line !== "") yield JSON.parse(line);
    }
  }
  if (rest !== "") throw new SyntaxError("the answer was cut off");
}

/** The data of server-sent events, each of them one line of JSON. */
export async function* readEvents(stream: AsyncIterable<Buffer>): AsyncGenerator<unknown> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const piece of stream) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > lineBytesMax) throw new RangeError("an event of the answer is too long");
    for (const line of lines) {
      if (line.startsWith("data: ")) yield JSON.parse(line.slice("data: ".length));
    }
  }
}
