/**
 * Logs that were cut or damaged: a cut one replays what is whole and says what is missing, one with
 * a flipped bit is refused. In no case is anything printed that the guest did not say.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { assetPath, defaultCommandLine } from "../../src/assets.ts";
import { frameTypes, type LogFrame, logFrames } from "./_log_frames.ts";
import { runMonitor } from "./_monitor.ts";
import { SeededRandom } from "./_random.ts";
import { type Recorded, record } from "./_round_trip.ts";

const randomCuts = 12;
const flippedBits = 60;
/** Replaying a boot takes a second: so many of its boundaries are tried, both ends included. */
const boundariesTried = 14;

interface Damaged {
  readonly recorded: Recorded;
  readonly bytes: Buffer;
  readonly frames: readonly LogFrame[];
}

const evidence = join(import.meta.dirname, "../../.test-output", `damage-${process.pid}`);
let damaged: Damaged;
let failed = false;

/** One recording of a boot with some ticks, damaged again and again; its images lie beside it. */
before(async () => {
  mkdirSync(evidence, { recursive: true });
  const guest = {
    kernel: assetPath("guest/vmlinuz"),
    initrd: assetPath("guest/initrd"),
    cmdline: defaultCommandLine(),
    timeoutSeconds: 4,
  };
  const recorded = await record(guest, evidence);
  const bytes = readFileSync(recorded.log);
  damaged = { recorded, bytes, frames: logFrames(bytes) };
});

afterEach((context) => {
  failed ||= !("passed" in context && context.passed);
});

after(() => {
  if (failed) process.stderr.write(`evidence: ${evidence}\n`);
  else rmSync(evidence, { recursive: true, force: true });
});

async function replayDamaged(bytes: Buffer) {
  writeFileSync(damaged.recorded.log, bytes);
  return runMonitor(["replay", damaged.recorded.log]);
}

test("a log cut between two frames replays what is whole", async () => {
  const chunks = damaged.frames.filter(({ type }) => type === frameTypes.chunk);
  const step = Math.max(1, Math.floor(chunks.length / boundariesTried));
  const tried = chunks.filter((_, index) => index % step === 0 || index === chunks.length - 1);
  for (const frame of tried) {
    await assertCut(frame.offset);
  }
});

test("a log cut anywhere replays what is whole", async (context) => {
  const random = SeededRandom.fromEnvironment();
  context.diagnostic(`NODE_MESH_SEED=${random.seed}`);
  const first = damaged.frames.find(({ type }) => type === frameTypes.chunk)?.offset ?? 0;
  for (let round = 0; round < randomCuts; round += 1) {
    await assertCut(first + random.below(damaged.bytes.length - first));
  }
});

async function assertCut(at: number): Promise<void> {
  const result = await replayDamaged(damaged.bytes.subarray(0, at));
  const where = `cut at ${at} of ${damaged.bytes.length}: ${result.errors}`;
  const whole = damaged.recorded.console;
  assert.ok(result.console.equals(whole.subarray(0, result.console.length)), where);
  assert.ok(
    result.errors.split("\n").some((line) => /missing|incomplete|ends/.test(line)),
    where,
  );
  assert.doesNotMatch(result.errors, /diverge|terminate|abort/i, where);
}

test("a log with one flipped bit is refused", async (context) => {
  const random = SeededRandom.fromEnvironment();
  context.diagnostic(`NODE_MESH_SEED=${random.seed}`);
  for (let round = 0; round < flippedBits; round += 1) {
    const at = random.below(damaged.bytes.length);
    const bytes = Buffer.from(damaged.bytes);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << random.below(8)), at);
    writeFileSync(damaged.recorded.log, bytes);
    const result = await runMonitor(["inspect", damaged.recorded.log]);
    const where = `bit flipped in byte ${at}: ${result.errors}`;
    assert.equal(result.status, 1, where);
    assert.match(result.errors, at < 8 ? /^Cannot / : /^Cannot .*\d/, where);
  }
});

test("a missing image is named", async () => {
  const moved = join(evidence, "alone.nmlog");
  writeFileSync(moved, damaged.bytes);
  const result = await runMonitor(["replay", moved]);
  assert.equal(result.status, 1);
  assert.match(result.errors, /^Cannot [^\n]*[0-9a-f]{16}[^\n]*\n$/);
});
