/**
 * Checkpoints beside a recording of Debian's stock kernel: from each of them the log replays to the
 * same end, compared digest by digest; damaged ones are refused by name.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assetPath, defaultCommandLine } from "../../src/assets.ts";
import { evidenceDirectory, runMonitor } from "./_monitor.ts";

interface Inspected {
  readonly summary: {
    readonly checkpoints: readonly {
      readonly file: string;
      readonly chunk: number;
      readonly at: { readonly steps: number; readonly user_steps: number };
    }[];
  };
}

function recordArgs(log: string, seconds: number): string[] {
  return [
    ...["record", log, "--kernel", assetPath("guest/vmlinuz")],
    ...["--initrd", assetPath("guest/initrd"), "--cmdline", defaultCommandLine()],
    ...["--mem", "128", "--timeout", String(seconds), "--checkpoint-every", "0.5"],
  ];
}

test("a log replays to the same end from each of its checkpoints", async (context) => {
  const directory = evidenceDirectory(context, "checkpoints");
  const log = join(directory, "boot.log");
  const stats = join(directory, "record.json");
  const recorded = await runMonitor([...recordArgs(log, 5), "--stats", stats]);
  assert.equal(recorded.status, 0, recorded.errors);
  const totals = JSON.parse(readFileSync(stats, "utf8"));
  context.diagnostic(JSON.stringify(totals.checkpoints));
  assert.ok(totals.checkpoints.count >= 2, "hardly any checkpoints were taken");

  const inspected = await runMonitor(["inspect", log, "--json"]);
  const { checkpoints } = (JSON.parse(inspected.console.toString()) as Inspected).summary;
  assert.equal(checkpoints.length, totals.checkpoints.count);
  for (const { file } of checkpoints) {
    const again = join(directory, "again.json");
    const verified = await runMonitor(["verify", log, "--from", file, "--stats", again]);
    assert.equal(verified.status, 0, verified.errors);
    assert.equal(JSON.parse(readFileSync(again, "utf8")).digest, totals.digest);
  }

  // The end of the console from a position in the middle is the end of the whole.
  const middle = checkpoints[Math.floor(checkpoints.length / 2)];
  const steps = (middle?.at.steps ?? 0) + 1000;
  const tail = await runMonitor(["replay", log, "--from", String(steps)]);
  assert.equal(tail.status, 0, tail.errors);
  assert.ok(recorded.console.toString("latin1").endsWith(tail.console.toString("latin1")));
  assert.ok(tail.console.length < recorded.console.length);

  const kept = `${log}.checkpoints`;
  const pack = readdirSync(kept).find((name) => name.endsWith(".pack")) ?? "";
  const bytes = readFileSync(join(kept, pack));
  bytes.writeUInt8(bytes.readUInt8(1000) ^ 4, 1000);
  writeFileSync(join(kept, pack), bytes);
  const refused = await Promise.all(
    checkpoints.map(({ file }) => runMonitor(["verify", log, "--from", file])),
  );
  const named = refused.filter(({ errors }) => errors.includes(pack) && errors.includes("damaged"));
  assert.ok(named.length > 0, "a flipped bit went unnoticed");
});

test("a checkpoint of another log is refused", async (context) => {
  const directory = evidenceDirectory(context, "checkpoint-foreign");
  const [one, other] = [join(directory, "one.log"), join(directory, "other.log")];
  for (const log of [one, other]) {
    const recorded = await runMonitor(recordArgs(log, 2));
    assert.equal(recorded.status, 0, recorded.errors);
  }
  const kept = `${other}.checkpoints`;
  const file = readdirSync(kept).find((name) => name.endsWith(".checkpoint")) ?? "";
  const refused = await runMonitor(["replay", one, "--from", join(kept, file)]);
  assert.equal(refused.status, 1);
  assert.match(refused.errors, /it belongs to another log/);
});
