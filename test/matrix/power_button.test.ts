/** The power button: the default guest and its stock kernel switch themselves off on all copies. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { assetPath, defaultCommandLine } from "../../src/assets.ts";
import { ServedGuest } from "./_served_guest.ts";

test("the default guest switches itself off when its power button is pressed", async () => {
  const guest = await ServedGuest.boot({
    kernel: assetPath("guest/vmlinuz"),
    initrd: assetPath("guest/initrd"),
    cmdline: defaultCommandLine(),
  });
  try {
    await guest.says(/tick 2\r\n/);
    guest.pressPowerButton();
    await guest.until(() => guest.ended !== null, "switches itself off");
    assert.equal(guest.ended, "poweroff");
    assert.match(guest.console, /The system is going down|SIGTERM/);
    const copy = await guest.replayed();
    assert.equal(copy.ended, "poweroff");
    assert.equal(copy.console, guest.console);
    await copy.kill();
  } finally {
    await guest.kill();
  }
});
