/**
 * A program with a node inside: starts it in a directory of its own, runs the default guest, prints
 * the first lines that it counts, and takes everything away again. See README.md beside this file.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient, startDaemon } from "../../mod.ts";

const linesWanted = 3;

/** Calls `onLine` with each numbered line of the guest until there were enough of them. */
export async function runExample(onLine: (line: string) => void): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), "node-mesh-embed-"));
  const node = await startDaemon({ dataDir, listen: ["/ip4/127.0.0.1/tcp/0"], name: "embedded" });
  try {
    const client = new ApiClient(dataDir);
    const vm = {
      name: "counter",
      kernel: null, // the default guest
      initrd: null,
      cmdline: null,
      memory_bytes: 128 * 2 ** 20,
      copies: 1,
      witnesses: 0,
      engine: "auto",
    } as const;
    await client.create(vm, { onProgress: () => {} });
    let text = "";
    let lines = 0;
    for await (const piece of client.console(vm.name, { offset: 0, follow: true })) {
      const parts = (text + piece.bytes.toString("latin1")).split("\r\n");
      text = parts.pop() ?? "";
      for (const part of parts) {
        const line = /tick \d+/.exec(part)?.[0];
        if (line === undefined) continue;
        onLine(line);
        lines += 1;
      }
      if (lines >= linesWanted) break;
    }
  } finally {
    await node.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

if (import.meta.main) await runExample((line) => process.stdout.write(`${line}\n`));
