/**
 * Debian with systemd: a root file system of mmdebstrap on a disk, Debian's own kernel with its own
 * initramfs, the disk and the network card up, to the login prompt and a clean power-off; recorded
 * and verified. Building the image and booting take minutes, so it runs when asked for:
 * NODE_MESH_DISTRO=1. The image is made once, from Debian's archive alone, and kept in .cache/.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assetPath } from "../../../src/assets.ts";
import { evidenceDirectory, runMonitor } from "../_monitor.ts";

const cache = join(import.meta.dirname, "../../../.cache/distro");
const bootMs = 400_000;

interface Distro {
  readonly name: string;
  readonly suites: readonly string[];
  readonly kernelPackage: string;
}

const distros: readonly Distro[] = [
  { name: "bookworm-cloud", suites: ["bookworm"], kernelPackage: "linux-image-cloud-amd64" },
  { name: "bookworm-standard", suites: ["bookworm"], kernelPackage: "linux-image-amd64" },
  {
    name: "bookworm-backports-cloud",
    suites: ["bookworm", "bookworm-backports"],
    kernelPackage: "linux-image-cloud-amd64/bookworm-backports",
  },
];

const packages = [
  "systemd-sysv,udev,initramfs-tools,iproute2,ifupdown,isc-dhcp-client",
  "e2fsprogs,kmod,dbus,login,zstd",
].join(",");

interface Made {
  readonly kernel: string;
  readonly initrd: string;
  readonly image: string;
}

/** The disk image and the boot files of a distribution, made when they are not there yet. */
function made(distro: Distro): Made {
  const place = join(cache, distro.name);
  if (!existsSync(place)) {
    const partial = `${place}.partial`;
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    makeImage(distro, partial);
    renameSync(partial, place);
  }
  const boot = readdirSync(place);
  const file = (start: string): string =>
    join(place, boot.find((name) => name.startsWith(start)) ?? start);
  return { kernel: file("vmlinuz"), initrd: file("initrd.img"), image: file("disk.img") };
}

/** Debian's archive, or the mirror of it that this machine uses. */
function archive(suite: string): string {
  const format = ["--format", "$(SITE)", `Codename: ${suite}`];
  const sites = execFileSync("apt-get", ["indextargets", ...format], { encoding: "utf8" });
  const site = sites.split("\n")[0] ?? "";
  assert.match(site, /^https?:/, `no source of ${suite} is set up for apt`);
  return site;
}

function makeImage(distro: Distro, place: string): void {
  const root = join(place, "root");
  const hooks = [
    "passwd --delete root",
    "echo node-mesh > /etc/hostname",
    "echo '/dev/vda / ext4 defaults 0 1' > /etc/fstab",
  ].flatMap((command) => ["--customize-hook", `chroot "$1" sh -c "${command}"`]);
  const site = archive(distro.suites[0] ?? "");
  const sources = distro.suites.map((suite) => `deb ${site} ${suite} main`);
  const include = `--include=${packages},${distro.kernelPackage}`;
  const first = distro.suites[0] ?? "";
  const flags = ["--variant=minbase", "--quiet", include, ...hooks, first, root, ...sources];
  execFileSync("mmdebstrap", flags, { stdio: ["ignore", "inherit", "inherit"] });
  for (const file of readdirSync(join(root, "boot"))) {
    if (/^(vmlinuz|initrd\.img)-/.test(file)) {
      renameSync(join(root, "boot", file), join(place, file));
    }
  }
  const image = join(place, "disk.img");
  execFileSync("mke2fs", ["-q", "-t", "ext4", "-d", root, image, "1536M"], { stdio: "pipe" });
  rmSync(root, { recursive: true, force: true });
}

/** Types each line when the console has said what stands before it; the console in the end. */
async function converse(args: readonly string[], lines: readonly [RegExp, string][]) {
  const child = spawn(assetPath("vmm"), args, { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  let seen = 0;
  let errors = "";
  const startMs = performance.now();
  let promptMs = 0;
  const left = [...lines];
  child.stdout.on("data", (bytes: Buffer) => {
    said += bytes.toString("latin1");
    const next = left[0];
    if (next === undefined || !next[0].test(said.slice(seen))) return;
    if (promptMs === 0) promptMs = performance.now() - startMs;
    seen = said.length;
    left.shift();
    child.stdin.write(`${next[1]}\n`);
  });
  child.stderr.on("data", (bytes: Buffer) => {
    errors += bytes.toString();
  });
  const killer = setTimeout(() => child.kill("SIGKILL"), bootMs);
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.on("close", resolve);
  const status = await promise;
  clearTimeout(killer);
  return { status, said: said.replaceAll("\r", ""), errors, promptMs };
}

const commands = [
  "echo; systemctl is-system-running --wait",
  "findmnt -no SOURCE,FSTYPE /",
  "ip link set $(ls /sys/class/net | grep -v lo) up; sleep 1; ip -br link show | grep -v lo",
  "dd if=/dev/urandom of=/srv/data bs=1M count=8 2>/dev/null; sync",
  "echo 3 > /proc/sys/vm/drop_caches; sha256sum /srv/data | cut -c1-64",
  "echo the end",
].join("; ");

const skip =
  process.env["NODE_MESH_DISTRO"] === "1"
    ? false
    : "it takes minutes and Debian's archive: NODE_MESH_DISTRO=1 runs it";

for (const distro of distros) {
  test(`${distro.name} boots to a login prompt, works and powers off`, {
    skip,
  }, async (context) => {
    const { kernel, initrd, image } = made(distro);
    const place = evidenceDirectory(context, distro.name);
    const log = join(place, "guest.nmlog");
    const args = ["record", log, "--kernel", kernel, "--initrd", initrd, "--disk", image].concat(
      ["--cmdline", "console=ttyS0 root=/dev/vda rw", "--mem", "512", "--net", "--rng"],
      ["--engine", process.env["NODE_MESH_ENGINE"] ?? "auto"],
    );
    const run = await converse(args, [
      [/login: /, "root"],
      [/# /, commands],
      [/\nthe end\r?\n/, "poweroff"],
    ]);
    writeFileSync(join(place, "console.txt"), run.said);
    context.diagnostic(`login prompt after ${(run.promptMs / 1000).toFixed(1)} s`);
    assert.equal(run.status, 0, run.errors);
    assert.match(run.said, /\n(running|degraded)\n/);
    assert.match(run.said, /\n\/dev\/vda +ext4\n/);
    assert.match(run.said, /\n(eth0|ens?\w+|enp\w+) +(UP|UNKNOWN) /);
    assert.match(run.said, /\n[0-9a-f]{64}\n/);
    assert.match(run.said, /Power down/);
    const out = join(place, "after.img");
    const verified = await runMonitor(["verify", log, "--disk-out", out], { killAfterMs: bootMs });
    assert.equal(verified.status, 0, verified.errors);
    execFileSync("e2fsck", ["-fn", out], { stdio: "pipe" });
  });
}
