import assert from "node:assert/strict";
import { test } from "node:test";
import type { VmSight } from "../vm/vm_observer.ts";
import { SwitchTracer } from "./switch_tracer.ts";

const follows = (leader: string | null, term = 1): VmSight => ({
  kind: "role",
  leads: false,
  leader,
  term,
});
const leads = (term: number): VmSight => ({ kind: "role", leads: true, leader: "me", term });
const live = (chunkCount: number): VmSight => ({ kind: "phase", phase: "live", chunkCount });
const output: VmSight = { kind: "output" };

function traced(sights: readonly (readonly [number, VmSight])[]) {
  let now = 0;
  const tracer = new SwitchTracer(() => now);
  return sights.flatMap(([at, sight]) => {
    now = at;
    const times = tracer.see("vm", sight);
    return times === null ? [] : [times];
  });
}

test("a switch is timed from the sign that nobody leads to the first output", () => {
  const times = traced([
    [0, follows("other")],
    [100, follows(null)],
    [150, follows(null, 2)],
    [160, leads(2)],
    [170, leads(2)],
    [180, live(40)],
    [190, output],
    [200, output],
  ]);
  assert.deepEqual(times, [
    { term: 2, first: false, lostAt: 100, electedAt: 160, liveAt: 180, outputAt: 190 },
  ]);
});

test("who lost the election has nothing to tell", () => {
  assert.deepEqual(
    traced([
      [0, follows(null)],
      [5, follows("other", 2)],
      [9, output],
    ]),
    [],
  );
});

test("leadership that is lost before the first output is another switch", () => {
  const times = traced([
    [10, leads(2)],
    [20, live(3)],
    [30, follows("other", 3)],
    [40, output],
    [50, follows(null, 3)],
    [60, leads(4)],
    [70, live(9)],
    [80, output],
  ]);
  assert.deepEqual(times, [
    { term: 4, first: false, lostAt: 50, electedAt: 60, liveAt: 70, outputAt: 80 },
  ]);
});

test("a VM's first start is told apart", () => {
  assert.equal(
    traced([
      [1, leads(1)],
      [2, live(0)],
      [3, output],
    ])[0]?.first,
    true,
  );
});
