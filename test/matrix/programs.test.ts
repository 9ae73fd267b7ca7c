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
import type { CpioEntry } from "../../src/build/cpio.ts";
import { buildWorker } from "../guests/worker.ts";
import { whyNoKvm } from "./_engines.ts";
import { evidenceDirectory } from "./_monitor.ts";
import { assertVerifies, type Guest, record } from "./_round_trip.ts";

const skip = (await whyNoKvm()) ?? false;
const work = "cpuint,cpuflt,getppid,pingpong,forkexec,touch,churn,files,applets";

/** Text, numbers, archives, dates: what each applet prints is in the console, and so compared. */
const applets = `#!/bin/busybox sh
cd /run
seq 1 2000 >n; awk '{ s += $1 * $1 } END { print s }' n; sort -rn n | head -3; wc n
sed -n 's/1\\(.\\)/<\\1>/gp' n | md5sum; grep -c 7 n; tr 0-9 a-j <n | tail -2; cut -c1-2 n | uniq -c | tail -2
od -An -tx1 -N16 /bin/busybox; hexdump -C -n 32 /bin/busybox; cksum n; sha1sum n; sha3sum n; sha512sum n
tar cf a.tar n; bzip2 -k n; gzip -k n; xz -h 2>&1 | head -1; ls -l n a.tar n.bz2 n.gz | awk '{ print $5, $9 }'
bunzip2 -c n.bz2 | cmp - n; gunzip -c n.gz | cmp - n; cpio -o </dev/null 2>&1; base64 n | md5sum
echo '2 20 ^ p 3 k 10 7 / p' | dc; echo 'scale=40; 4*a(1); e(1); 2^100' | bc -l; factor 1000000007 600851475143
date -u -d @86400 +%F; cal 1 2000; expr 17 '*' 19; printf '%08.3f|%x\\n' 3.14159 48879; echo a b c | xargs -n1 echo
find /bin -name 'z*' | sort | head; du -k n; stat -c '%s %a' n; dd if=/dev/zero bs=4k count=64 2>/dev/null | md5sum
sh -c 'x=0; for i in 1 2 3 4 5 6 7 8 9; do x=$((x * 31 + i)); done; echo $x'; kill -l 9; id -u; uname -m; nproc
timeout 1 sh -c 'while :; do :; done'; echo "timed out $?"; (sleep 0.1; echo slept) & wait; free | wc -l
diff n /dev/null | head -2; patch --help 2>&1 | head -1; strings /bin/busybox | head -2; vi --help 2>&1 | head -1
`;

function appletScript(): CpioEntry {
  return { kind: "file", path: "bin/applets", mode: 0o755, data: Buffer.from(applets) };
}

let directory: string;
let guest: Guest;

before(() => {
  directory = mkdtempSync(join(tmpdir(), "node-mesh-programs-"));
  guest = {
    kernel: assetPath("guest/vmlinuz"),
    initrd: buildWorker(directory, [appletScript()]),
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
