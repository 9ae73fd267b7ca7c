import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { makeProgram } from "../cli/program.ts";
import { allOf, commandTree } from "./command_tree.ts";
import { completionFor } from "./completion.ts";
import { manPage } from "./man_page.ts";
import { systemdUnit } from "./systemd_unit.ts";

const tree = commandTree(makeProgram());

/** What bash offers for a line that ends at the cursor. */
function offered(line: string): string[] {
  const words = line.split(" ");
  const script =
    `${completionFor("bash", tree)}\n` +
    `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}\n` +
    '_node_mesh; printf "%s\\n" "${COMPREPLY[@]}"';
  const result = spawnSync("bash", ["--norc", "-c", script], { encoding: "utf8" });
  assert.equal(result.stderr, "");
  return result.stdout.split("\n").filter((word) => word !== "");
}

test("bash completes verbs, options and their values", () => {
  assert.ok(offered("node-mesh v").includes("vm"));
  assert.ok(offered("node-mesh vm ").includes("run"));
  assert.deepEqual(offered("node-mesh vm ru"), ["run"]);
  assert.deepEqual(offered("node-mesh vm run web --copie"), ["--copies"]);
  assert.deepEqual(offered("node-mesh up --log-format j"), ["json"]);
  assert.ok(!offered("node-mesh vm run ").includes("ls"));
});

test("every verb is in the man page and in each completion", () => {
  const page = manPage(tree, { version: "1" });
  for (const { path, options } of allOf(tree)) {
    const last = path.at(-1) ?? "";
    for (const shell of ["bash", "zsh", "fish"] as const) {
      assert.ok(completionFor(shell, tree).includes(last), `${shell}: ${path}`);
    }
    if (path.length === 0 || options.length === 0) continue;
    assert.ok(page.includes(path.join(" ").replaceAll("-", "\\-")), path.join(" "));
  }
  assert.doesNotMatch(page, /^['.](?!TH|SH|SS|TP|BR?|I)/m);
});

test("the unit takes away what a node does not need", () => {
  const unit = systemdUnit({
    binary: "/usr/local/bin/node-mesh",
    words: ["--name", "a b"],
    user: false,
    kvmGroup: true,
  });
  assert.match(unit, /^ExecStart=\/usr\/local\/bin\/node-mesh up --data \S+ --name "a b"$/m);
  for (const line of ["NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="]) {
    assert.ok(unit.split("\n").includes(line), line);
  }
  const own = systemdUnit({ binary: "/x", words: [], user: true, kvmGroup: true });
  assert.doesNotMatch(own, /DynamicUser|ProtectHome|SupplementaryGroups/);
});

test("systemd finds nothing wrong with the unit", (context) => {
  if (spawnSync("systemd-analyze", ["--version"]).status !== 0) {
    context.skip("systemd-analyze is not here");
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), "node-mesh-unit-"));
  try {
    const file = join(directory, "node-mesh.service");
    const options = { binary: "/bin/true", words: [], user: false, kvmGroup: false };
    // The man page need not be installed here.
    writeFileSync(file, systemdUnit(options).replace(/^Documentation=.*\n/m, ""));
    const verified = spawnSync("systemd-analyze", ["verify", file], { encoding: "utf8" });
    const about = verified.stderr.split("\n").filter((line) => line.includes("node-mesh.service"));
    assert.deepEqual(about, []);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
