/**
 * The network card and the entropy device with the drivers of Debian's stock kernel: a peer that
 * answers ARP and pings stands at the other end of the wire. What the guest sends and what it says
 * is the same on a copy that follows its log.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { writeCpio } from "../../src/build/cpio.ts";
import { busyboxEntries, debianKernel, moduleEntries } from "../../src/build/guest.ts";
import { ServedGuest } from "./_served_guest.ts";

const mac = "02:00:00:12:34:56";
const macBytes = Buffer.from(mac.replaceAll(":", ""), "hex");
const peerMac = Buffer.from("020000000001", "hex");
const guestAddress = Buffer.from([10, 0, 0, 2]);
const peerAddress = Buffer.from([10, 0, 0, 1]);

/** In the order in which they need each other. */
const modules = [
  "drivers/virtio/virtio_ring.ko",
  "drivers/virtio/virtio.ko",
  "drivers/virtio/virtio_pci_modern_dev.ko",
  "drivers/virtio/virtio_pci_legacy_dev.ko",
  "drivers/virtio/virtio_pci.ko",
  "net/core/failover.ko",
  "drivers/net/net_failover.ko",
  "drivers/net/virtio_net.ko",
  "drivers/char/hw_random/virtio-rng.ko",
];

const script = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in ${modules.map((path) => path.replace(/.*\//, "")).join(" ")}; do
  $b insmod /lib/modules/$module || echo "no $module"
done
$b cat /sys/class/misc/hw_random/rng_current
$b dd if=/dev/hwrng bs=64 count=1 2>/dev/null | $b sha256sum
$b ip addr add 10.0.0.2/24 dev eth0
$b ip link set eth0 up
echo "address: $($b cat /sys/class/net/eth0/address)"
$b ping -c 3 -i 0.2 -W 5 10.0.0.1
$b dd if=/dev/zero bs=1000 count=300 2>/dev/null | $b nc -w 20 10.0.0.1 7 >/dev/null
echo "the guest is ready"
read line
echo "it heard: $line"
$b poweroff -f
`;

let directory = "";

before(() => {
  directory = mkdtempSync(join(tmpdir(), "node-mesh-network-"));
  const init = { kind: "file", path: "init", mode: 0o755, data: Buffer.from(script) } as const;
  const archive = writeCpio([...busyboxEntries(), ...moduleEntries(modules), init]);
  writeFileSync(join(directory, "initrd"), archive);
});

after(() => rmSync(directory, { recursive: true, force: true }));

function sumOf(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) {
    sum += at + 1 < bytes.length ? bytes.readUInt16BE(at) : (bytes[at] as number) << 8;
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

function ethernet(type: number, body: Buffer): Buffer {
  const head = Buffer.concat([macBytes, peerMac, Buffer.from([type >> 8, type & 0xff])]);
  return Buffer.concat([head, body]);
}

function ipv4(protocol: number, body: Buffer): Buffer {
  const head = Buffer.from("450000000000000040000000", "hex");
  head.writeUInt16BE(20 + body.length, 2);
  head[9] = protocol;
  const header = Buffer.concat([head, peerAddress, guestAddress]);
  header.writeUInt16BE(~sumOf(header) & 0xffff, 10);
  return ethernet(0x0800, Buffer.concat([header, body]));
}

function echo(type: number, rest: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from([type, 0, 0, 0]), rest]);
  body.writeUInt16BE(~sumOf(body) & 0xffff, 2);
  return ipv4(1, body);
}

/** The other end of the wire. Owns no state but counts: its answers follow from what it gets. */
class Peer {
  readonly #guest: ServedGuest;
  echoRepliesSeen = 0;
  resetsSent = 0;
  wrongChecksums = 0;

  constructor(guest: ServedGuest) {
    this.#guest = guest;
    guest.onFrame = (frame) => this.#frame(frame);
  }

  pingGuest(): void {
    this.#guest.sendFrame(echo(8, Buffer.from("00070001 and a payload", "latin1")));
  }

  #frame(frame: Buffer): void {
    const type = frame.readUInt16BE(12);
    if (type === 0x0806 && frame.readUInt16BE(20) === 1) this.#answerArp(frame);
    if (type !== 0x0800) return;
    const headerBytes = ((frame[14] as number) & 15) * 4;
    const end = 14 + frame.readUInt16BE(16);
    const body = frame.subarray(14 + headerBytes, end);
    if (frame[23] === 1 && body[0] === 8) this.#guest.sendFrame(echo(0, body.subarray(4)));
    if (frame[23] === 1 && body[0] === 0) this.echoRepliesSeen += 1;
    if (frame[23] === 6) this.#refuse(frame, body);
  }

  #answerArp(frame: Buffer): void {
    if (!frame.subarray(38, 42).equals(peerAddress)) return;
    const head = Buffer.from("0001080006040002", "hex");
    const parts = [head, peerMac, peerAddress, macBytes, guestAddress];
    this.#guest.sendFrame(ethernet(0x0806, Buffer.concat(parts)));
  }

  /** TCP is looked at for its checksum, which the card fills in, and refused. */
  #refuse(frame: Buffer, segment: Buffer): void {
    const pseudo = Buffer.concat([frame.subarray(26, 34), Buffer.from([0, 6, 0, 0])]);
    pseudo.writeUInt16BE(segment.length, 10);
    if (sumOf(Buffer.concat([pseudo, segment])) !== 0xffff) this.wrongChecksums += 1;
    const answer = Buffer.alloc(20);
    answer.writeUInt16BE(segment.readUInt16BE(2), 0);
    answer.writeUInt16BE(segment.readUInt16BE(0), 2);
    answer.writeUInt32BE((segment.readUInt32BE(4) + 1) >>> 0, 8);
    answer[12] = 0x50;
    answer[13] = 0x14; // RST, ACK
    pseudo.writeUInt16BE(20, 10);
    answer.writeUInt16BE(~sumOf(Buffer.concat([pseudo, answer])) & 0xffff, 16);
    this.resetsSent += 1;
    this.#guest.sendFrame(ipv4(6, answer));
  }
}

test("stock drivers bring up the card and the entropy device; a copy does the same", async () => {
  const guest = await ServedGuest.boot({
    kernel: debianKernel(),
    initrd: join(directory, "initrd"),
    cmdline: "console=ttyS0 quiet nokaslr panic=-1",
    net: { mac, mtu: 1500 },
    rng: true,
  });
  try {
    const peer = new Peer(guest);
    await guest.says(/the guest is ready/);
    assert.match(guest.console, /virtio_rng\.0/);
    assert.match(guest.console, /[0-9a-f]{64} {2}-/);
    assert.match(guest.console, new RegExp(`address: ${mac}`));
    assert.match(guest.console, /3 packets transmitted, 3 packets received/);
    peer.pingGuest();
    await guest.until(() => peer.echoRepliesSeen === 1, "answers a ping");
    guest.sendFrameAgain(echo(8, Buffer.from("00070002 once more", "latin1")));
    peer.pingGuest();
    await guest.until(
      () => peer.echoRepliesSeen === 2,
      "answers a second ping, not a repeated one",
    );
    assert.deepEqual([peer.resetsSent > 0, peer.wrongChecksums], [true, 0]);
    guest.type("hello\n");
    await guest.until(() => guest.ended !== null, "ends");
    assert.match(guest.console, /it heard: hello/);
    const copy = await guest.replayed();
    assert.equal(copy.ended, guest.ended);
    assert.equal(copy.console, guest.console);
    assert.deepEqual(copy.frames, guest.frames);
    await copy.kill();
  } finally {
    await guest.kill();
  }
});
