import assert from "node:assert/strict";
import { test } from "node:test";
import { changes, type VmPicture } from "./change_watcher.ts";
import { EventLog } from "./event_log.ts";

const note = (text: string) => ({ kind: "vm.state", text }) as const;

function texts(log: EventLog, after: string | null): string[] {
  return log.after(after).map(({ kind, text }) => (kind === "reset" ? "reset" : text));
}

test("whoever comes back goes on behind the last event that was seen", () => {
  const log = new EventLog({ now: () => 36 });
  log.add(note("a"));
  const id = log.lastId;
  log.add(note("b"));
  log.add(note("c"));
  assert.deepEqual(texts(log, null), ["a", "b", "c"]);
  assert.deepEqual(texts(log, id), ["b", "c"]);
  assert.deepEqual(texts(log, log.lastId), []);
});

test("whoever missed events, or comes from another run, is told so", () => {
  const log = new EventLog({ now: () => 36, max: 2 });
  log.add(note("a"));
  const id = log.lastId;
  for (const text of ["b", "c", "d"]) log.add(note(text));
  assert.deepEqual(texts(log, id), ["reset", "c", "d"]);
  for (const strange of ["x-1", "10-99", "10-", "", "10-1e9", "10--1"]) {
    assert.deepEqual(texts(log, strange), ["reset", "c", "d"], strange);
  }
});

test("a follower gets what comes, in order and once", async () => {
  const log = new EventLog({ now: () => 36 });
  const stop = new AbortController();
  const seen: string[] = [];
  const following = (async () => {
    for await (const batch of log.follow(null, { signal: stop.signal })) {
      seen.push(...batch.map(({ text }) => text));
      if (seen.length === 3) stop.abort();
    }
  })();
  await new Promise((resolve) => setImmediate(resolve));
  log.add(note("a"));
  log.add(note("b"));
  await new Promise((resolve) => setImmediate(resolve));
  log.add(note("c"));
  await following;
  assert.deepEqual(seen, ["a", "b", "c"]);
});

function vm(changed: Partial<VmPicture>): ReadonlyMap<string, VmPicture> {
  const members = new Map([
    ["n1", "live"],
    ["n2", "following"],
  ]);
  const base = { id: "1", name: "web", state: "running", primary: "n1", term: 1, members };
  return new Map([["1", { ...base, ...changed }]]);
}

const kinds = (before: ReadonlyMap<string, VmPicture>, after: ReadonlyMap<string, VmPicture>) =>
  changes(before, after, (id) => id).map(({ kind, text }) => `${kind}: ${text}`);

test("a failover is told step by step", () => {
  const lost = vm({ state: "switching", primary: null, members: new Map([["n2", "going_live"]]) });
  const after = vm({ primary: "n2", term: 2, members: new Map([["n2", "live"]]) });
  assert.deepEqual(kinds(vm({}), vm({})), []);
  assert.deepEqual(kinds(vm({}), lost), [
    "vm.member: VM web: the copy on n2 is going live",
    "vm.state: VM web is switching",
  ]);
  assert.deepEqual(kinds(lost, after), [
    "vm.member: VM web: the copy on n2 is live",
    "vm.primary: VM web runs on n2",
    "vm.state: VM web is running",
  ]);
});

test("an older picture is no news", () => {
  assert.deepEqual(kinds(vm({ term: 3, primary: "n2" }), vm({ term: 2 })), []);
});

test("VMs that come and go", () => {
  assert.deepEqual(kinds(new Map(), vm({})), ["vm.created: VM web is there"]);
  assert.deepEqual(kinds(vm({}), new Map()), ["vm.removed: VM web is gone"]);
});
