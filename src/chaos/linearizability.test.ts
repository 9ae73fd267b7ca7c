import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../prng.ts";
import { firstUnexplained, nothing, type Operation, type Request } from "./linearizability.ts";

function operation(
  id: string,
  request: Request,
  times: { called: number; answered?: number; output?: string },
): Operation {
  return {
    id,
    key: "k",
    request,
    calledMs: times.called,
    answeredMs: times.answered ?? Number.POSITIVE_INFINITY,
    output: times.output ?? null,
  };
}

const put = (value: string): Request => ({ kind: "put", value });
const get: Request = { kind: "get" };

test("operations one after the other must see each other", () => {
  const good = [
    operation("a", put("1"), { called: 0, answered: 1, output: "1" }),
    operation("b", get, { called: 2, answered: 3, output: "1" }),
  ];
  assert.equal(firstUnexplained(good), null);
  const stale = [good[0] as Operation, { ...(good[1] as Operation), output: nothing }];
  assert.match(firstUnexplained(stale) ?? "", /key k: .* b .*none/);
});

test("operations at the same time may come in any order", () => {
  for (const seen of ["1", "2", nothing]) {
    const history: Operation[] = [
      operation("a", put("1"), { called: 0, answered: 10, output: "1" }),
      operation("b", put("2"), { called: 0, answered: 10, output: "2" }),
      operation("c", get, { called: 1, answered: 9, output: seen }),
    ];
    assert.equal(firstUnexplained(history), null, seen);
  }
});

test("two readers may not see two orders", () => {
  const history = [
    operation("a", put("1"), { called: 0, answered: 100, output: "1" }),
    operation("b", put("2"), { called: 0, answered: 100, output: "2" }),
    operation("c", get, { called: 1, answered: 2, output: "1" }),
    operation("d", get, { called: 3, answered: 4, output: "2" }),
    operation("e", get, { called: 5, answered: 6, output: "1" }),
  ];
  assert.notEqual(firstUnexplained(history), null);
});

test("what was not answered may have happened, later or never", () => {
  const lost = operation("a", put("1"), { called: 0 });
  for (const seen of [nothing, "1"]) {
    const read = operation("b", get, { called: 50, answered: 51, output: seen });
    assert.equal(firstUnexplained([lost, read]), null, seen);
  }
  const back = [
    lost,
    operation("b", get, { called: 50, answered: 51, output: "1" }),
    operation("c", get, { called: 60, answered: 61, output: nothing }),
  ];
  assert.notEqual(firstUnexplained(back), null);
});

test("a swap takes place once", () => {
  const swap: Request = { kind: "swap", from: nothing, to: "x" };
  const both = [
    operation("a", swap, { called: 0, answered: 10, output: "yes" }),
    operation("b", swap, { called: 0, answered: 10, output: "yes" }),
  ];
  assert.notEqual(firstUnexplained(both), null);
  const one = [both[0] as Operation, { ...(both[1] as Operation), output: "no" }];
  assert.equal(firstUnexplained(one), null);
});

/** Runs a real store one operation at a time at a moment between call and answer. */
function realHistory(prng: Prng, count: number): Operation[] {
  const calls = Array.from({ length: count }, (_, index) => {
    const calledMs = prng.between(0, count * 3);
    const happensMs = calledMs + prng.next() * 20;
    return { index, calledMs, happensMs, answeredMs: happensMs + prng.next() * 20 };
  });
  let value = nothing;
  return calls
    .sort((a, b) => a.happensMs - b.happensMs)
    .map(({ index, calledMs, answeredMs }): Operation => {
      const request: Request = prng.pick<Request>([
        get,
        put(`v${index}`),
        { kind: "swap", from: value, to: `s${index}` },
      ]);
      let output = value;
      if (request.kind === "put") output = value = request.value;
      if (request.kind === "swap") {
        output = "yes";
        value = request.to;
      }
      const silent = prng.chance(0.1);
      return {
        id: `o${index}`,
        key: "k",
        request,
        calledMs,
        answeredMs: silent ? Number.POSITIVE_INFINITY : answeredMs,
        output: silent ? null : output,
      };
    });
}

test("histories of a real store pass, and with one answer changed they do not", () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const history = realHistory(new Prng(seed), 60);
    assert.equal(firstUnexplained(history), null, `seed ${seed}`);
    const victim = history.findIndex((one) => one.request.kind === "get" && one.output !== null);
    if (victim === -1) continue;
    const wrong = history.map((one, at) => (at === victim ? { ...one, output: "never put" } : one));
    assert.notEqual(firstUnexplained(wrong), null, `seed ${seed}`);
  }
});
