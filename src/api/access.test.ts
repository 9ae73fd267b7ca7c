import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Access, accessLimits, cookieName, loadToken, sessionCookie, tokenFile } from "./access.ts";
import { IdempotentAnswers, idempotencyLimits } from "./idempotency.ts";
import { hostCheck, isLoopback, parseApiAddress, tlsOf } from "./listen_options.ts";
import { errorOf, problemOf, problemTypes } from "./problem.ts";
import { pageOf } from "./schemas.ts";

test("the token is made once and is for its owner alone", () => {
  const directory = mkdtempSync(join(tmpdir(), "node-mesh-token-"));
  try {
    const token = loadToken(directory);
    assert.match(token, /^nmt_[\w-]{43}$/);
    assert.equal(loadToken(directory), token);
    assert.equal(statSync(tokenFile(directory)).mode & 0o777, 0o600);
    assert.equal(readFileSync(tokenFile(directory), "utf8"), `${token}\n`);
    writeFileSync(tokenFile(directory), "too short\n");
    chmodSync(tokenFile(directory), 0o600);
    assert.throws(() => loadToken(directory), /Cannot use the API token .*; remove the file/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a login link's code works once, and for a minute", () => {
  let now = 1_000;
  const access = new Access("secret-secret-secret", { now: () => now });
  const { code } = access.newCode();
  assert.notEqual(access.useCode(code), null);
  assert.equal(access.useCode(code), null);
  const late = access.newCode();
  now += accessLimits.codeMs + 1;
  assert.equal(access.useCode(late.code), null);
  assert.equal(access.useCode("guess"), null);
});

test("a browser that comes back after a day signs in again", () => {
  let now = 1_000;
  const access = new Access("secret-secret-secret", { now: () => now });
  const { id } = access.newSession();
  const cookie = `other=1; ${cookieName}=${id}`;
  assert.equal(access.callerOf({ cookie })?.who, "session");
  now += 24 * 3_600_000;
  assert.equal(access.callerOf({ cookie }), null);
});

test("callers are known by the token or a session, and by nothing else", () => {
  const access = new Access("secret-secret-secret", { now: () => 0 });
  assert.equal(access.callerOf({ authorization: "Bearer secret-secret-secret" })?.who, "token");
  const session = access.newSession();
  assert.equal(access.callerOf({ cookie: `${cookieName}=${session.id}` })?.who, "session");
  for (const headers of [
    {},
    { authorization: "Bearer wrong" },
    { authorization: "Basic c2VjcmV0" },
    { authorization: "Bearer " },
    { cookie: `${cookieName}=guess` },
    { cookie: `x${cookieName}=${session.id}` },
    // A wrong token is not made good by a cookie.
    { authorization: "Bearer wrong", cookie: `${cookieName}=${session.id}` },
  ]) {
    assert.equal(access.callerOf(headers), null, JSON.stringify(headers));
  }
  access.endSession(session.id);
  assert.equal(access.callerOf({ cookie: `${cookieName}=${session.id}` }), null);
});

test("sessions are bounded: the oldest ends", () => {
  const access = new Access("secret-secret-secret", { now: () => 0 });
  const first = access.newSession();
  for (let index = 0; index < accessLimits.sessionsMax; index += 1) access.newSession();
  assert.equal(access.callerOf({ cookie: `${cookieName}=${first.id}` }), null);
});

test("the cookie is out of reach for scripts and for other sites", () => {
  const cookie = sessionCookie("abc", { endsMs: 0, secure: true });
  assert.match(cookie, /; HttpOnly; SameSite=Strict; .*; Secure$/);
});

test("addresses of the API", () => {
  assert.deepEqual(parseApiAddress(":7070"), { host: "127.0.0.1", port: 7070 });
  assert.deepEqual(parseApiAddress("[::1]:1"), { host: "::1", port: 1 });
  assert.deepEqual(parseApiAddress("Lab7.example:80"), { host: "lab7.example", port: 80 });
  for (const text of ["", "7070", "host", "host:99999", "::1:80", "a b:1", "http://x:1"]) {
    assert.equal(parseApiAddress(text), null, text);
  }
  for (const host of ["127.0.0.1", "127.9.9.9", "::1", "localhost"]) assert.ok(isLoopback(host));
  for (const host of ["0.0.0.0", "10.0.0.1", "::", "localhost.evil.example"]) {
    assert.ok(!isLoopback(host), host);
  }
});

test("an address that others reach is refused without TLS", () => {
  assert.equal(tlsOf({ host: "127.0.0.1", port: 1 }), null);
  for (const host of ["0.0.0.0", "::", "192.0.2.7", "lab7.example"]) {
    assert.throws(() => tlsOf({ host, port: 1 }), /there is no TLS; give --api-cert and --api-key/);
  }
  assert.throws(() => tlsOf({ host: "127.0.0.1", port: 1, cert: "x" }), /belong together/);
  assert.throws(
    () => tlsOf({ host: "127.0.0.1", port: 1, cert: "/nowhere/x", key: "/nowhere/y" }),
    /Cannot read "\/nowhere\/x": .*; check --api-cert/,
  );
});

test("requests are answered under the node's own names only", () => {
  const isOwn = hostCheck({ host: "127.0.0.1", port: 7070 }, null);
  for (const header of ["127.0.0.1:7070", "localhost:7070", "[::1]:7070", "LOCALHOST"]) {
    assert.ok(isOwn(header), header);
  }
  for (const header of [
    "",
    "evil.example",
    "evil.example:7070",
    "127.0.0.1.evil.example",
    "a:b:c",
  ]) {
    assert.ok(!isOwn(header), header);
  }
});

test("the same key again gets the same answer, and no other request may use it", async () => {
  let now = 0;
  let made = 0;
  const answers = new IdempotentAnswers<number>({ now: () => now });
  const make = async (): Promise<number> => {
    made += 1;
    return made;
  };
  const both = [answers.answer("k", { a: 1 }, { make }), answers.answer("k", { a: 1 }, { make })];
  assert.deepEqual(await Promise.all(both), [1, 1]);
  assert.throws(() => answers.answer("k", { a: 2 }, { make }), /another request/);
  now += idempotencyLimits.keptMs;
  assert.equal(await answers.answer("k", { a: 2 }, { make }), 2);
  const fail = async (): Promise<number> => {
    throw new Error("no");
  };
  await assert.rejects(answers.answer("f", {}, { make: fail }), /no/);
  assert.equal(await answers.answer("f", {}, { make }), 3);
});

test("pages hold all rows once, whatever comes and goes between them", () => {
  const rows = ["b", "d", "a", "c", "e"];
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const page = pageOf(
      rows,
      { limit: "2", ...(cursor === undefined ? {} : { cursor }) },
      (r) => r,
    );
    seen.push(...page.rows);
    cursor = page.next ?? undefined;
    if (seen.length === 2) rows.push("aa", "f");
  } while (cursor !== undefined);
  assert.deepEqual(seen, ["a", "b", "c", "d", "e", "f"]);
  assert.deepEqual(pageOf(rows, { limit: "1", cursor: "%%%" }, (r) => r).rows.length, 1);
});

test("problem types stay what they are", () => {
  assert.deepEqual(
    Object.entries(problemTypes).map(([name, { status }]) => `${name} ${status}`),
    [
      "invalid 400",
      "not_found 404",
      "exists 409",
      "refused 422",
      "unavailable 503",
      "unauthorized 401",
      "forbidden 403",
      "too_slow 408",
      "too_large 413",
      "unsupported 415",
      "misdirected 421",
      "mismatch 422",
      "too_many 429",
      "failed 500",
    ],
  );
  const problem = problemOf(Object.assign(new Error("a\nb"), { statusCode: 413 }));
  assert.deepEqual(problem, {
    type: "urn:node-mesh:problem:too_large",
    title: "The request is too large",
    status: 413,
    detail: "a b",
  });
  assert.equal(errorOf({ ...problem, type: "urn:node-mesh:problem:not_found" }).kind, "not_found");
  assert.equal(errorOf({ ...problem, type: "about:blank" }).kind, "refused");
});
