/**
 * Debian's stock kernel with the default guest: what a guest can see of time, interrupts and
 * entropy replays, with input typed at random moments.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { assetPath, defaultCommandLine } from "../../src/assets.ts";
import { evidenceDirectory, type Typed } from "./_monitor.ts";
import { SeededRandom } from "./_random.ts";
import { assertReplays, type Guest, record } from "./_round_trip.ts";

const rounds = 3;
/** A recorded boot to the shell takes about a second; input before that waits in the UART. */
const typingBeginsMs = 300;
const typingLastsMs = 3500;

function defaultGuest(): Guest {
  return {
    kernel: assetPath("guest/vmlinuz"),
    initrd: assetPath("guest/initrd"),
    cmdline: defaultCommandLine(),
    memoryMib: 128,
    timeoutSeconds: 60,
  };
}

const commands = [
  "date +%s.%N",
  "cat /proc/uptime",
  "cat /proc/interrupts",
  "cat /proc/sys/kernel/random/uuid",
  "head -c 32 /dev/urandom | sha256sum",
  "time sh -c 'for i in 1 2 3; do sha256sum /bin/busybox; done'",
  "cat /proc/stat | head -3",
  "ls -la --full-time /tmp /dev | sha256sum",
];

/** Each command at a random moment, half of them torn in two; the last ends the guest. */
function randomTyping(random: SeededRandom): Typed[] {
  const typed: Typed[] = [];
  for (const command of commands) {
    const afterMs = typingBeginsMs + random.below(typingLastsMs);
    const line = `${command}\n`;
    const cut = random.next() < 0.5 ? line.length : 1 + random.below(line.length - 1);
    typed.push({ afterMs, text: line.slice(0, cut) });
    typed.push({ afterMs: afterMs + random.below(30), text: line.slice(cut) });
  }
  typed.push({ afterMs: typingBeginsMs + typingLastsMs + 1500, text: "\npoweroff -f\n" });
  return typed.filter(({ text }) => text !== "");
}

for (let round = 1; round <= rounds; round += 1) {
  const random = new SeededRandom(SeededRandom.fromEnvironment().seed + round);
  test(`typing at random moments replays (round ${round})`, async (context) => {
    context.diagnostic(`NODE_MESH_SEED=${random.seed - round}`);
    const directory = evidenceDirectory(context, `kernel-${round}`);
    const recorded = await record(defaultGuest(), directory, { typed: randomTyping(random) });
    assert.match(recorded.console.toString("latin1"), /node-mesh guest: Linux/);
    assert.match(recorded.console.toString("latin1"), /tick 1\r\n/);
    assert.equal(recorded.stats.end, "poweroff");
    assert.ok((recorded.stats.events["input"] ?? 0) > 0, "no input was recorded");
    await assertReplays(recorded, directory);
  });
}

test("a recording that its time-out ends replays whole", async (context) => {
  const directory = evidenceDirectory(context, "kernel-timeout");
  const recorded = await record({ ...defaultGuest(), timeoutSeconds: 3 }, directory);
  assert.equal(recorded.stats.end, "timeout");
  await assertReplays(recorded, directory);
});

test("the default guest counts its seconds without gaps", async (context) => {
  const directory = evidenceDirectory(context, "kernel-ticks");
  const recorded = await record({ ...defaultGuest(), timeoutSeconds: 6 }, directory);
  const ticks = [...recorded.console.toString("latin1").matchAll(/tick (\d+)\r\n/g)];
  const numbers = ticks.map((match) => Number(match[1]));
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => index + 1),
  );
  assert.ok(numbers.length >= 3, `${numbers.length} ticks in 6 s`);
});
