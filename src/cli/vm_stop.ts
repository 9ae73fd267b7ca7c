/** `node-mesh vm stop`: ends a VM. */
import type { Command } from "commander";
import { action, type CommonOptions, clientOf, duration, withData } from "./context.ts";
import { print } from "./output.ts";
import { startProgress } from "./progress.ts";

interface StopOptions extends CommonOptions {
  readonly timeout: string;
  readonly force?: boolean;
}

/** The API takes three digits of seconds. */
const timeoutSecondsMax = 999;

export function addVmStop(vm: Command): void {
  withData(vm.command("stop"))
    .argument("<name>", "name or id of the VM")
    .summary("end a VM")
    .description(
      "Presses the VM's power button and waits until its guest has switched itself off; a guest " +
        "that does not within the time-out has its power taken away. Either way the VM ends for " +
        "good, at one place of its execution on all its copies. It stays listed, with its " +
        "console, until `vm rm`.",
    )
    .option("--timeout <time>", "how long the guest may take", "30s")
    .option("--force", "take its power away at once")
    .action(
      action(async (name: string, options: StopOptions) => {
        const asked = Math.ceil(duration(options.timeout) / 1000);
        const seconds = options.force === true ? 0 : Math.min(asked, timeoutSecondsMax);
        const progress = startProgress();
        progress.say(
          seconds === 0 ? "ending the VM" : "waiting for the guest to switch itself off",
        );
        let forced = false;
        try {
          ({ forced } = await clientOf(options).stop(name, { timeoutSeconds: seconds }));
        } finally {
          progress.end();
        }
        const how = forced && seconds > 0 ? `; it did not switch itself off in ${seconds} s` : "";
        print(`VM ${name} has ended${how}\n`);
      }),
    );
}
