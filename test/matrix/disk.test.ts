/**
 * A disk with the drivers and the file system of Debian's stock kernel: what the guest writes it
 * reads back, every copy has the same disk without a byte of it in the log, and whatever moment the
 * power fails at, the log gives back a file system with all that the guest said was safe.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { assetPath } from "../../src/assets.ts";
import { writeCpio } from "../../src/build/cpio.ts";
import { busyboxEntries, debianKernel, moduleEntries } from "../../src/build/guest.ts";
import { evidenceDirectory, readStats, runMonitor } from "./_monitor.ts";
import { SeededRandom } from "./_random.ts";

/** In the order in which they need each other. */
const modules = [
  "drivers/virtio/virtio_ring.ko",
  "drivers/virtio/virtio.ko",
  "drivers/virtio/virtio_pci_modern_dev.ko",
  "drivers/virtio/virtio_pci_legacy_dev.ko",
  "drivers/virtio/virtio_pci.ko",
  "drivers/block/virtio_blk.ko",
];

const start = `#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in ${modules.map((path) => path.replace(/.*\//, "")).join(" ")}; do
  insmod /lib/modules/$module || echo "no $module"
done
mkdir -p /mnt /run
mount -t ext4 -o discard /dev/vda /mnt || poweroff -f
`;

const uses = `${start}
sha256sum /mnt/given
cat /sys/block/vda/serial /sys/block/vda/size /sys/block/vdb/ro; echo
for i in 1 2 3 4; do
  dd if=/dev/urandom of=/mnt/file$i bs=37k count=40 2>/dev/null
  sha256sum /mnt/file$i >> /run/sums
done
rm /mnt/file2; fstrim /mnt; sed -i /file2/d /run/sums
echo 3 > /proc/sys/vm/drop_caches
sha256sum -c /run/sums
umount /mnt
dd if=/dev/vda of=/dev/null bs=64k 2>/dev/null || echo "the disk cannot be read"
echo x | dd of=/dev/vdb 2>/dev/null && echo "a read-only disk was written"
mount -t ext4 /dev/vda /mnt && sha256sum -c /run/sums && umount /mnt
poweroff -f
`;

const writesOn = `${start}
i=0
while [ $i -lt 200 ]; do
  i=$((i + 1))
  dd if=/dev/urandom of=/mnt/file$i bs=1k count=$((i * 7 % 50 + 1)) 2>/dev/null
  [ $((i % 3)) = 0 ] && rm -f /mnt/file$((i - 1)) && echo "removed file$((i - 1))"
  sync
  echo "safe $(cd /mnt && sha256sum file$i)"
done
poweroff -f
`;

let directory = "";

before(() => {
  directory = mkdtempSync(join(tmpdir(), "node-mesh-disk-"));
  for (const [name, script] of Object.entries({ uses, writesOn })) {
    const init = { kind: "file", path: "init", mode: 0o755, data: Buffer.from(script) } as const;
    const archive = writeCpio([...busyboxEntries(), ...moduleEntries(modules), init]);
    writeFileSync(join(directory, name), archive);
  }
});

after(() => rmSync(directory, { recursive: true, force: true }));

/** An ext4 image with one file in it, and that file's bytes. */
function makeImage(place: string): { readonly image: string; readonly given: Buffer } {
  const tree = join(place, "tree");
  mkdirSync(tree);
  const given = randomBytes(1_234_567);
  writeFileSync(join(tree, "given"), given);
  const image = join(place, "disk.img");
  execFileSync("mke2fs", ["-q", "-t", "ext4", "-d", tree, image, "24M"], { stdio: "pipe" });
  return { image, given };
}

function machine(name: string, image: string): string[] {
  const initrd = join(directory, name);
  return [
    "--kernel",
    debianKernel(),
    "--initrd",
    initrd,
    "--cmdline",
    "console=ttyS0 quiet",
  ].concat(["--mem", "128", "--timeout", "100", "--disk", image]);
}

function sha256sum(bytes: Buffer): string {
  return execFileSync("sha256sum", { input: bytes }).toString().split(" ")[0] ?? "";
}

for (const engine of ["interp", "auto"]) {
  test(`a file system on a disk, recorded with --engine ${engine}, replays`, async (context) => {
    const place = evidenceDirectory(context, `disk-${engine}`);
    const { image, given } = makeImage(place);
    const blank = join(place, "blank.img");
    writeFileSync(blank, "");
    const log = join(place, "guest.nmlog");
    const stats = join(place, "record.json");
    const disks = ["--disk", `${blank},size=1M,ro`];
    const flags = [...machine("uses", image), ...disks, "--engine", engine, "--stats", stats];
    const recorded = await runMonitor(["record", log, ...flags]);
    const said = recorded.console.toString("latin1").replaceAll("\r", "");
    assert.equal(recorded.status, 0, recorded.errors);
    assert.ok(said.includes(`${sha256sum(given)}  /mnt/given`), said);
    assert.match(said, /node-mesh-disk0.*\n?49152\n1\n/, said);
    assert.equal(said.match(/file[134]: OK/g)?.length, 6, said);
    assert.doesNotMatch(said, /FAILED|cannot be read|was written|error/i);
    const expected = readStats(stats);
    assert.equal(expected.end, "poweroff");
    assert.ok(expected.log_bytes < 400_000, `the log has ${expected.log_bytes} bytes`);
    for (const other of ["interp", "auto"]) {
      const out = join(place, `after-${other}.img`);
      const replayStats = join(place, `${other}.json`);
      const args = ["verify", log, "--engine", other, "--stats", replayStats, "--disk-out", out];
      const verified = await runMonitor(args);
      assert.equal(verified.status, 0, verified.errors);
      assert.equal(readStats(replayStats).digest, expected.digest);
      execFileSync("e2fsck", ["-fn", out], { stdio: "pipe" });
    }
    assert.equal(sha256sum(readFileSync(image)).length, 64);
    assert.ok(
      readFileSync(join(place, "after-auto.img")).equals(
        readFileSync(join(place, "after-interp.img")),
      ),
    );
  });
}

for (let round = 1; round <= 3; round += 1) {
  const random = new SeededRandom(SeededRandom.fromEnvironment().seed + round);
  test(`what was synced survives a killed monitor (round ${round})`, async (context) => {
    context.diagnostic(`NODE_MESH_SEED=${random.seed - round}`);
    const place = evidenceDirectory(context, `power-${round}`);
    const { image } = makeImage(place);
    const log = join(place, "guest.nmlog");
    const killAfter = 6 + random.below(20);
    await killedAfter(killAfter, ["record", log, ...machine("writesOn", image)]);
    const out = join(place, "after.img");
    const replayed = await runMonitor(["replay", log, "--disk-out", out]);
    // The log has no end: the replay says so, and gives what there is.
    assert.match(replayed.errors, /was replayed|were replayed/);
    const said = replayed.console.toString("latin1").replaceAll("\r", "");
    const checked = spawnSync("e2fsck", ["-fp", out]);
    assert.ok((checked.status ?? 8) <= 1, `e2fsck: ${checked.stdout} ${checked.stderr}`);
    const safe = new Map<string, string>();
    for (const line of said.split("\n")) {
      const [, sum, name] = /^safe ([0-9a-f]{64}) {2}(file\d+)$/.exec(line) ?? [];
      if (sum !== undefined && name !== undefined) safe.set(name, sum);
    }
    // The two that were newest may have been removed since.
    const names = [...safe.keys()]
      .filter((name) => !said.includes(`removed ${name}\n`))
      .slice(0, -2);
    for (const name of names) {
      const file = join(place, name);
      execFileSync("debugfs", ["-R", `dump ${name} ${file}`, out], { stdio: "pipe" });
      assert.ok(existsSync(file), `${name} is lost`);
      assert.equal(sha256sum(readFileSync(file)), safe.get(name), name);
    }
    context.diagnostic(`${names.length} files were checked`);
  });
}

/** Kills the monitor when its guest has said `count` times that something is safe. */
async function killedAfter(count: number, args: readonly string[]): Promise<void> {
  const child = spawn(assetPath("vmm"), args, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stdout.on("data", (bytes: Buffer) => {
    said += bytes.toString("latin1");
    if (said.split("safe ").length > count) child.kill("SIGKILL");
  });
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals | null>();
  child.on("close", (_status, signal) => resolve(signal));
  assert.equal(await promise, "SIGKILL", said);
}

test("an image that is cut off ends the copy, with a report and no other data", async (context) => {
  const place = evidenceDirectory(context, "disk-cut");
  const { image } = makeImage(place);
  const log = join(place, "guest.nmlog");
  const child = spawn(assetPath("vmm"), ["record", log, ...machine("writesOn", image)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let errors = "";
  let cut = false;
  child.stderr.on("data", (bytes: Buffer) => {
    errors += bytes.toString();
  });
  child.stdout.on("data", () => {
    if (!cut) truncateSync(image, 100_000);
    cut = true;
  });
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.on("close", resolve);
  assert.equal(await promise, 1);
  assert.match(errors, /disk image ".*": it was (cut off|changed) while in use/);
});

test("--disk that makes no sense is refused in one line", async () => {
  const kernel = ["--kernel", debianKernel()];
  const missing = await runMonitor(["run", ...kernel, "--disk", join(directory, "none")]);
  assert.equal(missing.status, 1);
  assert.match(
    missing.errors,
    /^Cannot open disk image ".*none": no such file or directory; .*\n$/,
  );
  const size = await runMonitor(["run", ...kernel, "--disk", "x,size=3"]);
  assert.match(size.errors, /^Cannot use --disk "x,size=3": the size is not/);
});
