/**
 * Programs that load a guest in many ways, on both engines: equal console and equal digests. Short
 * forms of the bench's work, signals and mappings in plenty, and applets of busybox by the dozen.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { assetPath } from "../../src/assets.ts";
import { buildWorker } from "../guests/worker.ts";
import { whyNoKvm } from "./_engines.ts";
import { evidenceDirectory } from "./_monitor.ts";
import { assertVerifies, type Guest, record } from "./_round_trip.ts";

const skip = (await whyNoKvm()) ?? false;
const work = "cpuint,cpuflt,getppid,pingpong,forkexec,touch,churn,files,applets";

let directory: string;
let guest: Guest;

before(() => {
  directory = mkdtempSync(join(tmpdir(), "node-mesh-programs-"));
  guest = {
    kernel: assetPath("guest/vmlinuz"),
    initrd: buildWorker(directory),
    cmdline: `console=ttyS0 quiet cryptomgr.notests=1 panic=-1 percent=4 work=${work}`,
    memoryMib: 256,
    timeoutSeconds: 120,
  };
});

after(() => rmSync(directory, { recursive: true, force: true }));

for (const [engine, other] of [
  ["kvm", "interp"],
  ["interp", "kvm"],
] as const) {
  test(`programs: recorded on ${engine}, verified on ${other}`, { skip }, async (context) => {
    const evidence = evidenceDirectory(context, `programs-${engine}`);
    const recorded = await record(guest, evidence, { engine });
    const text = recorded.console.toString("latin1");
    for (const name of work.split(",")) {
      assert.match(text, new RegExp(`MARK ${name === "files" ? "sha256" : name} end`));
    }
    assert.match(text, /churn 80 200 /);
    assert.match(text, /3\.14159265358979323846264338327950288419/);
    assert.match(text, /timed out 143/);
    await assertVerifies(recorded, evidence, other);
  });
}
