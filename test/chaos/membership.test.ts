import assert from "node:assert/strict";
import { join } from "node:path";
import { until } from "../../src/demo/cluster.ts";
import { clusterTest, runTicker, tickerGuest } from "./cluster.ts";
import { type Ended, runVerb } from "./run_verb.ts";

/** Runs a verb of the program to its end; what it printed, without the ends of lines around it. */
async function run(...words: string[]): Promise<Ended> {
  const { status, out, err } = await runVerb(words);
  return { status, out: out.trim(), err: err.trim() };
}

clusterTest(
  "tickets that are used up, expired, revoked or cut off let nobody in",
  ["alpha"],
  async (c) => {
    const alpha = c.anyBut();
    const at = ["--data", alpha.dataDir];
    const joinAs = (name: string, ticket: string): Promise<Ended> =>
      run("join", ticket, "--data", join(c.directory, name), "--listen", "127.0.0.1:0");
    const single = (await run("ticket", "--uses", "1", ...at)).out;
    const beta = c.add("beta");
    await beta.start({ ticket: single });
    await c.connected();
    const again = await joinAs("second", single);
    assert.equal(again.status, 1);
    assert.match(again.err, /^Cannot join .*ticket.*$/);
    const short = (await run("ticket", "create", "--expires", "1s", ...at)).out;
    const open = (await run("ticket", "create", "--roles", "lend", ...at)).out;
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const listed = JSON.parse((await run("ticket", "ls", "--json", ...at)).out);
    assert.deepEqual(
      listed.tickets.map((ticket: { state: string }) => ticket.state),
      ["open", "used up", "expired", "open"],
    );
    assert.match((await joinAs("late", short)).err, /expired/);
    // Another member may revoke them: nobody is in charge.
    for (const { id } of [listed.tickets[0], listed.tickets[3]]) {
      const revoked = await run("ticket", "revoke", id.slice(-8), "--data", beta.dataDir);
      assert.equal(revoked.status, 0, revoked.err);
    }
    await until("alpha to know", 10_000, async () =>
      (await alpha.client.tickets()).every((ticket) => ticket.state !== "open"),
    );
    assert.match((await joinAs("revoked", open)).err, /^Cannot join/);
    assert.match((await joinAs("cut", open.slice(0, -7))).err, /^Cannot read the ticket: /);
    const { counters } = await alpha.client.status();
    assert.ok((counters["peers_refused"] ?? 0) + (counters["joins_refused"] ?? 0) >= 3);
    assert.equal((await alpha.client.status()).peers_connected, 1);
  },
);

clusterTest(
  "a removed node is refused by all, and stays out",
  ["alpha", "beta", "gamma"],
  async (c) => {
    const [alpha, beta, gamma] = c.nodes as [
      (typeof c.nodes)[0],
      (typeof c.nodes)[0],
      (typeof c.nodes)[0],
    ];
    // Names are announced some moments after the start.
    for (const node of [alpha!, beta!]) {
      await until("gamma's name", 10_000, async () =>
        (await node.client.nodes()).some((one) => one.name === "gamma"),
      );
    }
    const removed = await run("node", "remove", "gamma", "--data", alpha!.dataDir);
    assert.equal(removed.status, 0, removed.err);
    for (const node of [alpha!, beta!]) {
      await until(
        "gamma to be gone",
        10_000,
        async () => (await node.client.status()).peers_connected === 1,
      );
    }
    await gamma!.kill();
    await gamma!.start();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    assert.equal((await gamma!.client.status()).peers_connected, 0);
    assert.match((await run("node", "remove", "gamma", "--data", beta!.dataDir)).err, /no member/);
  },
);

clusterTest("a node may do what its roles say, and no more", ["alpha"], async (c) => {
  const alpha = c.anyBut();
  const lender = c.add("lender");
  const user = c.add("user");
  const ticketFor = async (roles: "lend" | "use") => alpha.client.ticket({ roles: [roles] });
  await lender.start({ ticket: await ticketFor("lend") });
  await user.start({ ticket: await ticketFor("use") });
  await c.connected();
  const view = await runTicker(alpha, { copies: 2, witnesses: 0 });
  assert.ok(
    view.members.every(({ node }) => node !== user.id),
    "it does not lend",
  );
  for (const node of [lender, user]) {
    const stopped = await run("vm", "stop", "ticker", "--data", node.dataDir);
    assert.match(stopped.err, /^Cannot stop VM "ticker": it belongs to alpha/);
    const ticket = await run("ticket", "--data", node.dataDir);
    assert.match(ticket.err, /^Cannot make a ticket: .*"administer"/);
    assert.equal((await run("vm", "ls", "--data", node.dataDir)).status, 0);
  }
  const kernel = ["--kernel", tickerGuest(), "--copies", "1", "--witnesses", "0", "--mem", "64"];
  const none = await run("vm", "run", "mine", ...kernel, "--data", lender.dataDir);
  assert.match(none.err, /^Cannot run VM "mine": .*role "use"/);
  const made = await run("vm", "run", "mine", ...kernel, "--data", user.dataDir);
  assert.equal(made.status, 0, made.err);
  assert.equal((await run("vm", "stop", "mine", "--data", user.dataDir)).status, 0);
  assert.equal((await run("node", "roles", "lender", "none", "--data", alpha.dataDir)).status, 0);
});
