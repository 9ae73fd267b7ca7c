/** Every tiny guest that the native build makes, through the whole matrix. */
import assert from "node:assert/strict";
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { paths } from "../../src/build/paths.ts";
import { evidenceDirectory } from "./_monitor.ts";
import { assertReplays, type RecordOptions, record } from "./_round_trip.ts";

/** What a guest wants typed, or how else it should end. */
const special: Readonly<Record<string, RecordOptions>> = {
  echo: {
    typed: ["r", "ep", "lay\r\n", "\u00e4", "q"].map((text, index) => ({
      afterMs: 50 + 37 * index,
      text,
    })),
  },
  triple_fault: { status: 1 },
};

const guests = globSync(join(paths.nativeRelease, "test/guests/*.elf")).sort();

test("the native build made tiny guests", () => {
  assert.ok(guests.length > 0, "none in build/native/test/guests; run: npm run build");
});

for (const kernel of guests) {
  const name = basename(kernel, ".elf");
  test(`${name}: record, replay, verify twice`, async (context) => {
    const directory = evidenceDirectory(context, `guest-${name}`);
    const guest = { kernel, memoryMib: 64, timeoutSeconds: 20 };
    const recorded = await record(guest, directory, special[name] ?? {});
    await assertReplays(recorded, directory);
  });
}
