/** Whether this machine can run user code directly, and what a test says when it cannot. */
import { runMonitor } from "./_monitor.ts";

/** Null: it can. Else why not, as a test's reason to leave itself out. */
export async function whyNoKvm(): Promise<string | null> {
  const probed = await runMonitor(["probe"]);
  const found = JSON.parse(probed.console.toString("utf8")) as {
    readonly engines: readonly string[];
    readonly engine_why: string;
  };
  if (found.engines.includes("kvm")) return null;
  if (process.env["NODE_MESH_REQUIRE_KVM"] === "1") {
    throw new Error(`Cannot test on KVM, which is required: ${found.engine_why}`);
  }
  return `no KVM to run user code on: ${found.engine_why}`;
}
