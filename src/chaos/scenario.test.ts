import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { UserError } from "../user_error.ts";
import { readScenario, scenarioForms } from "./scenario.ts";
import { makeUpScenario } from "./soak.ts";

const good = `# A title.
nodes alpha beta gamma
vm web with 2 copies and a witness
# A remark.
kill primary of web, alpha and a random node   # at once
wait 1..2.5 s
hold every line once
`;

test("a scenario is read sentence by sentence", () => {
  const scenario = readScenario("good", good);
  assert.equal(scenario.title, "A title.");
  assert.deepEqual(scenario.nodes, ["alpha", "beta", "gamma"]);
  assert.deepEqual(scenario.vms, [{ name: "web", copies: 2, witnesses: 1 }]);
  assert.deepEqual(
    scenario.steps.map((step) => step.number),
    [5, 6],
  );
  assert.deepEqual(scenario.steps[0]?.meaning.who, [
    { kind: "role", role: "primary", vm: "web" },
    { kind: "name", name: "alpha" },
    { kind: "random" },
  ]);
  assert.equal(scenario.needs.size, 0);
});

test("what a scenario needs follows from its sentences", () => {
  const scenario = readScenario("cut", good.replace("wait 1..2.5 s", "cut alpha off"));
  assert.deepEqual([...scenario.needs], ["network"]);
});

const refused: readonly (readonly [string, string, RegExp])[] = [
  [
    "kill primary of web, alpha",
    "kil alpha",
    /line 5: "kil alpha.*" is no sentence .*; say "kill <who>"/,
  ],
  ["kill primary of web, alpha", "kill primary of mail, alpha", /line 5: there is no VM "mail"/],
  ["kill primary of web, alpha", "kill omega, alpha", /line 5: there is no node "omega"/],
  ["kill primary of web, alpha", "kill king of web, alpha", /line 5: "king" is no role/],
  ["wait 1..2.5 s", "wait 3..2 s", /line 6: "3..2 s" ends before it begins/],
  ["wait 1..2.5 s", "wait a while", /line 6: "wait a while" is no sentence .* say "wait /],
  ["2 copies", "3 copies", /needs 4 nodes and there are 3/],
  ["hold every line once", "", /nothing that must hold/],
  ["hold every line once", "hold my beer", /line 7: .* is no sentence/],
  ["nodes alpha beta gamma", "", /it names no nodes/],
  ["vm web", "vm alpha", /two things named "alpha"/],
];

test("what is wrong is named with its line and a remedy", () => {
  for (const [from, to, expected] of refused) {
    const read = (): unknown => readScenario("bad", good.replace(from, to));
    assert.throws(read, (error) => error instanceof UserError && expected.test(error.message), to);
  }
});

test("an endless file is refused", () => {
  assert.throws(() => readScenario("long", "#".repeat(100_000)), /is it a scenario/);
});

test("all scenarios that come along can be read, and use every sentence that hurts", () => {
  const folder = join(import.meta.dirname, "scenarios");
  const texts = readdirSync(folder).map((file) => [file, readFileSync(join(folder, file), "utf8")]);
  assert.ok(texts.length >= 20);
  for (const [file, text] of texts) assert.notEqual(readScenario(file ?? "", text ?? "").title, "");
  const all = texts.map(([, text]) => text).join("\n");
  const unused = scenarioForms
    .map((form) => form.split("<")[0]?.trim() ?? "")
    .filter((start) => start !== "" && !new RegExp(`^${start}\\b`, "m").test(all));
  assert.deepEqual(unused, []);
});

test("a seed makes up one scenario, and it can be read", () => {
  for (let seed = 0; seed < 200; seed += 1) {
    const text = makeUpScenario(seed, { network: seed % 2 === 0 });
    assert.equal(text, makeUpScenario(seed, { network: seed % 2 === 0 }));
    const scenario = readScenario(`soak-${seed}`, text);
    assert.ok(scenario.steps.length > 3);
    if (seed % 2 === 1) assert.equal(scenario.needs.size, 0);
  }
});
