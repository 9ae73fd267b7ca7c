/** Answers that take a while: lines of progress, the last of which is the result or a problem. */
import type { FastifyReply } from "fastify";
import { sendLines } from "./ndjson.ts";
import { problemOf } from "./problem.ts";
import type { CreateLine, VmView } from "./schemas.ts";

/** Sends lines until their end, or until the client has left. */
export async function stream(
  reply: FastifyReply,
  signal: AbortSignal,
  lines: AsyncIterable<object>,
): Promise<void> {
  reply.hijack();
  try {
    await sendLines(reply.raw, lines, signal);
  } catch {
    reply.raw.destroy();
  }
}

/** Progress as it comes, then the VM or the problem. */
export async function* progressLines(
  work: (onProgress: (text: string) => void) => Promise<VmView>,
): AsyncGenerator<CreateLine> {
  const lines: CreateLine[] = [];
  let wake = (): void => {};
  let finished = false;
  const push = (line: CreateLine): void => {
    lines.push(line);
    wake();
  };
  const working = (async () => work((progress) => push({ progress })))();
  void working
    .then(
      (vm) => push({ vm }),
      (error: unknown) => push({ problem: problemOf(error) }),
    )
    .finally(() => {
      finished = true;
      wake();
    });
  while (!finished || lines.length > 0) {
    const line = lines.shift();
    if (line !== undefined) yield line;
    else {
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (finished || lines.length > 0) resolve();
      });
    }
  }
}
