import assert from "node:assert/strict";
import { mkdirSync, readdirSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import type { Cluster, NodeProcess } from "../../src/demo/cluster.ts";
import { clusterTest, runTicker, tickerGuest } from "./cluster.ts";
import { type Ended, runVerb as run } from "./run_verb.ts";

/** One line that says what could not be done, and the right exit status. */
function assertRefused(ended: Ended, why: RegExp, status = 1): void {
  assert.equal(ended.status, status, `${ended.out}${ended.err}`);
  const lines = ended.err.trimEnd().split("\n");
  assert.equal(lines.length, 1, ended.err);
  assert.match(ended.err, /^Cannot /);
  assert.match(ended.err, why);
  assert.doesNotMatch(ended.err, /\n\s+at /);
}

function first(cluster: Cluster): NodeProcess {
  return cluster.nodes[0] as NodeProcess;
}

clusterTest("kernels and initrds that are none", ["solo"], async (cluster) => {
  const directory = join(cluster.directory, "images");
  mkdirSync(directory);
  const file = (name: string, bytes: Buffer | string): string => {
    writeFileSync(join(directory, name), bytes);
    return join(directory, name);
  };
  const otherMachine = Buffer.alloc(4096);
  otherMachine.write("\x7fELF\x02\x01\x01", "latin1");
  otherMachine.writeUInt16LE(2, 16);
  otherMachine.writeUInt16LE(183, 18);
  const cut = file("cut", Buffer.alloc(2048, 1));
  truncateSync(cut, 700);
  const data = ["--data", first(cluster).dataDir];
  const solo = [...data, "--copies", "1", "--witnesses", "0"];
  for (const [kernel, why] of [
    [file("text", "this is no kernel\n".repeat(100)), /kernel/i],
    [file("other", otherMachine), /x86|machine/i],
    [cut, /kernel/i],
    [file("empty", ""), /kernel|empty/i],
    [join(directory, "missing"), /no such file/],
    [directory, /not a regular file/],
  ] as const) {
    assertRefused(await run(["vm", "run", "bad", ...solo, "--kernel", kernel]), why);
  }
  const large = file("large", "");
  truncateSync(large, 100 * 2 ** 20);
  const kernel = tickerGuest();
  const tooLarge = ["--kernel", kernel, "--initrd", large, "--mem", "64"];
  assertRefused(await run(["vm", "run", "bad", ...solo, ...tooLarge]), /initrd/i);
  for (const mem of ["1", "65537"]) {
    assertRefused(await run(["vm", "run", "bad", ...solo, "--mem", mem]), /memory/);
  }
  assertRefused(await run(["vm", "run", "Bad_Name", ...solo]), /no name for a VM/);
  const long = ["--kernel", kernel, "--cmdline", "x".repeat(3000)];
  assertRefused(await run(["vm", "run", "bad", ...solo, ...long]), /command line/);
  assert.deepEqual(await first(cluster).client.vms(), []);
});

clusterTest("names and numbers that do not fit", ["alpha", "beta", "gamma"], async (cluster) => {
  const node = first(cluster);
  const data = ["--data", node.dataDir];
  await runTicker(node);
  for (const other of cluster.nodes) {
    const there = ["--data", other.dataDir];
    const again = ["vm", "run", "ticker", "--kernel", tickerGuest(), ...there];
    assertRefused(await run(again), /a VM of that name exists/);
  }
  assertRefused(await run(["vm", "run", "large", "--copies", "5", ...data]), /needs 6 nodes/);
  assertRefused(await run(["vm", "run", "none", "--copies", "0", ...data]), /at least 1 copy/);
  assertRefused(await run(["vm", "run", "none", "--copies", "x", ...data]), /whole number/, 2);
  assertRefused(await run(["vm", "show", "nobody", ...data]), /no such VM/);
  assertRefused(await run(["vm", "rm", "nobody", ...data]), /no such VM/);
  assertRefused(await run(["vm", "frobnicate", ...data]), /unknown command/, 2);
  assertRefused(await run(["vm", "ls", "--data", join(cluster.directory, "none")]), /not running/);
});

clusterTest(
  "stop, remove, and the name is free again",
  ["alpha", "beta", "gamma"],
  async (cluster) => {
    const [alpha, beta] = cluster.nodes as [NodeProcess, NodeProcess];
    await runTicker(alpha);
    const stopped = await run(["vm", "stop", "ticker", "--data", beta.dataDir]);
    assert.equal(stopped.status, 0, stopped.err);
    const view = await alpha.client.vm("ticker");
    assert.deepEqual([view.state, view.end_reason], ["ended", "stopped"]);
    const logs = await run(["vm", "logs", "ticker", "--data", beta.dataDir]);
    assert.match(logs.out, /^ticker\n/);
    assertRefused(await run(["vm", "stop", "ticker", "--data", beta.dataDir]), /has ended/);
    assert.equal((await run(["vm", "rm", "ticker", "--data", beta.dataDir])).status, 0);
    assert.deepEqual(await alpha.client.vms(), []);
    await runTicker(beta);
    assert.equal((await alpha.client.vm("ticker")).state, "running");
  },
);

clusterTest("a port and a data directory that are taken", ["solo"], async (cluster) => {
  const node = first(cluster);
  const again = ["up", "--data", node.dataDir, "--listen", "127.0.0.1:0"];
  assertRefused(await run(again), /in use/);
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  const other = join(cluster.directory, "other");
  const taken = ["up", "--data", other, "--listen", `127.0.0.1:${port}`];
  assertRefused(await run(taken), /in use|EADDRINUSE/);
  server.close();
  assertRefused(await run(["up", "--data", other, "--listen", "nowhere"]), /neither/, 2);
  assertRefused(await run(["up", "--data", "/proc/1/mesh", "--listen", "127.0.0.1:0"]), /--data/);
  assert.equal(statSync(node.dataDir).mode & 0o777, 0o700);
  assert.equal(statSync(join(node.dataDir, "api.sock")).mode & 0o777, 0o600);
});

clusterTest("a node without the key gets no connection", ["alpha"], async (cluster) => {
  const alpha = first(cluster);
  const { addresses } = await alpha.client.status();
  const stranger = cluster.add("stranger");
  await stranger.start();
  const strangersTicket = await stranger.client.ticket();
  await stranger.stop();
  const address = addresses[0] ?? "";
  const keyless = [
    "join",
    address,
    "--data",
    join(cluster.directory, "c"),
    "--listen",
    "127.0.0.1:0",
  ];
  assertRefused(await run(keyless), /key is missing/);
  assertRefused(await run(["join", "nm1:abc", ...keyless.slice(2)]), /ticket/);
  assertRefused(await run(["join", "gibberish", ...keyless.slice(2)]), /neither a ticket/);
  // The stranger's key with this mesh's address: a key that was guessed.
  const own = ["join", strangersTicket, "--data", stranger.dataDir, "--listen", "127.0.0.1:0"];
  assertRefused(await run(own, { timeoutMs: 60_000 }), /join|itself|own/);
  assert.equal((await alpha.client.status()).peers_connected, 0);
  assert.deepEqual(readdirSync(alpha.dataDir).includes("api.sock"), true);
});
