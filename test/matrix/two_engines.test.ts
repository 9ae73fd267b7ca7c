/**
 * Both engines check each other: what one recorded the other replays to the same console, time and
 * digests. Tiny guests that attack determinism from user mode, and Debian's stock kernel.
 */
import assert from "node:assert/strict";
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { assetPath, defaultCommandLine } from "../../src/assets.ts";
import { paths } from "../../src/build/paths.ts";
import { whyNoKvm } from "./_engines.ts";
import { evidenceDirectory, type Typed } from "./_monitor.ts";
import { assertVerifies, type Guest, type RecordOptions, record } from "./_round_trip.ts";

const skip = (await whyNoKvm()) ?? false;

const special: Readonly<Record<string, RecordOptions>> = {
  echo: { typed: [{ afterMs: 200, text: "both engines q" }] },
  triple_fault: { status: 1 },
};

/** Guests whose user code runs long enough to be handed over, and stopped by force. */
const preempted = ["user_memory", "user_spin"];

const guests = globSync(join(paths.nativeRelease, "test/guests/*.elf")).sort();

for (const kernel of guests) {
  const name = basename(kernel, ".elf");
  test(`${name}: recorded on KVM, verified in software, and the other way`, {
    skip,
  }, async (context) => {
    const directory = evidenceDirectory(context, `engines-${name}`);
    const guest = { kernel, memoryMib: 64, timeoutSeconds: name === "ticker" ? 2 : 20 };
    const onKvm = await record(guest, directory, { ...special[name], engine: "kvm" });
    await assertVerifies(onKvm, directory, "interp");
    await assertVerifies(onKvm, directory, "kvm");
    if (preempted.includes(name)) {
      assert.ok((onKvm.stats.events["preempt"] ?? 0) > 0, "nothing was stopped by force");
    }
    const inSoftware = await record(guest, directory, { ...special[name], engine: "interp" });
    await assertVerifies(inSoftware, directory, "kvm");
  });
}

/** Short and long stretches of user code, processes, files, a busy loop beside a waiting shell. */
const script = [
  "uname -r; date +%s.%N; cat /proc/uptime",
  "for i in 1 2 3 4 5 6 7 8; do sha256sum /bin/busybox; done",
  "(while :; do :; done) & echo busy; busy=$!",
  "sleep 0.3; cat /proc/interrupts | sha256sum; kill $busy",
  "head -c 3000000 /dev/zero | gzip -9 | gunzip | md5sum",
  "i=0; while [ $i -lt 300 ]; do i=$((i + 1)); done; echo $i; cat /proc/stat | sha256sum",
  "cat /proc/sys/kernel/random/uuid; echo all done",
];

function typedScript(): Typed[] {
  return [...script, "sleep 2; poweroff -f"].map((line, index) => ({
    afterMs: 1200 + 150 * index,
    text: `${line}\n`,
  }));
}

function stockKernel(): Guest {
  return {
    kernel: assetPath("guest/vmlinuz"),
    initrd: assetPath("guest/initrd"),
    cmdline: defaultCommandLine(),
    memoryMib: 128,
    timeoutSeconds: 60,
  };
}

for (const [engine, other] of [
  ["kvm", "interp"],
  ["interp", "kvm"],
] as const) {
  test(`stock kernel: recorded on ${engine}, verified on ${other}`, { skip }, async (context) => {
    const directory = evidenceDirectory(context, `engines-kernel-${engine}`);
    const recorded = await record(stockKernel(), directory, { engine, typed: typedScript() });
    assert.match(recorded.console.toString("latin1"), /\nall done/);
    const stats = await assertVerifies(recorded, directory, other);
    const onKvm = engine === "kvm" ? recorded.stats : stats;
    assert.ok((onKvm.user_engine?.["stretches"] ?? 0) > 0, "no user code ran directly");
  });
}
