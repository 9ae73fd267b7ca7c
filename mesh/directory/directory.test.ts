/** Hints of nodes and VMs: heard by all, newest wins, forgotten when their sender is gone. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { directoryLimits } from "../limits.ts";
import { type Mesh, openMesh } from "../mesh.ts";
import { generateMeshKey } from "../transport/mesh_key.ts";
import type { VmHint } from "./directory.ts";

async function until(what: string, condition: () => boolean, limitMs = 15_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > end) assert.fail(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function meshes(t: TestContext, count: number): Promise<Mesh[]> {
  const meshKey = generateMeshKey();
  const list: Mesh[] = [];
  for (let n = 0; n < count; n += 1) {
    const dataDir = mkdtempSync(join(tmpdir(), "node-mesh-directory-"));
    t.after(() => rmSync(dataDir, { recursive: true, force: true }));
    const bootstrap = list[0]?.node.addresses() ?? [];
    const listen = ["/ip4/127.0.0.1/tcp/0"];
    const mesh = await openMesh({
      ...{ dataDir, listen, meshKey, bootstrap, name: `node-${n}` },
      admission: "key",
    });
    t.after(() => mesh.stop());
    list.push(mesh);
  }
  return list;
}

function vm(name: string, state: string): VmHint {
  const rest = { specHash: "ab", role: "replica", term: 3, leader: null, position: 12 };
  return { id: `vm-${name}`, name, state, ...rest };
}

test("all nodes hear of all nodes and VMs, and forget who is gone", async (t) => {
  const [a, b, c] = (await meshes(t, 3)) as [Mesh, Mesh, Mesh];
  c.directory.announce({ version: "1.0", capacity: { cpus: 2 }, vms: [vm("x", "live")] });
  for (const mesh of [a, b, c]) {
    await until("three nodes and the VM", () => {
      const names = mesh.directory.nodes().map(({ name }) => name);
      return names.sort().join() === "node-0,node-1,node-2" && mesh.directory.vms().length === 1;
    });
  }
  const heard = a.directory.nodes().find(({ id }) => id === c.id);
  assert.deepEqual(heard?.capacity, { cpus: 2 });
  assert.equal(heard?.version, "1.0");
  assert.equal(heard?.connected, true);
  assert.deepEqual(a.directory.vms(), [{ ...vm("x", "live"), node: c.id }]);
  c.directory.announce({ vms: [vm("x", "ended"), vm("y", "live")] });
  await until("the change", () => a.directory.vms().some(({ state }) => state === "ended"));
  await c.stop();
  await until("forgotten", () => a.directory.vms().length === 0, directoryLimits.expireMs + 5_000);
  assert.equal(a.directory.nodes().length, 2);
});

test("a malformed or oversized announcement is refused and counted", async (t) => {
  const [a, b] = (await meshes(t, 2)) as [Mesh, Mesh];
  await until("heard", () => a.directory.nodes().length === 2);
  const topic = "node-mesh/directory/1";
  const { pubsub } = b.node.libp2p.services;
  await pubsub.publish(topic, new Uint8Array([1, 2, 3]));
  await pubsub.publish(topic, new Uint8Array(directoryLimits.messageBytesMax + 1));
  await until("both counted", () => a.counters.get("announcements_refused") === 2);
  b.directory.announce({ vms: Array.from({ length: 256 }, (_, n) => vm(`${n}`.repeat(40), "x")) });
  await until("as many as fit", () => a.directory.vms().length > 50);
});
