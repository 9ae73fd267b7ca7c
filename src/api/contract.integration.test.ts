/**
 * The API against its own document: every operation is called on a node that really runs, and each
 * answer must be what the document says. Then everything that should not get through.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { decodeTicket, openMesh } from "../../mesh/mod.ts";
import { tickerGuest } from "../../test/chaos/cluster.ts";
import { type Daemon, startDaemon } from "../daemon/daemon.ts";
import { loadToken } from "./access.ts";
import { apiLimits } from "./schemas.ts";

interface OperationObject {
  readonly operationId: string;
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { readonly schema: object }>> }>
  >;
}
interface OpenApi {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>;
}
type Method = "GET" | "POST" | "PUT" | "DELETE";

let directory = "";
let node: Daemon;
let url = "";
let token = "";
let document: OpenApi;
const called = new Set<string>();
const ajv = new Ajv2020({ strict: false, formats: { byte: true } });
const validators = new Map<object, ValidateFunction>();

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "node-mesh-api-"));
  const api = { host: "127.0.0.1", port: 0 };
  const listen = ["/ip4/127.0.0.1/tcp/0"];
  node = await startDaemon({ dataDir: directory, listen, name: "solo", api });
  url = node.api.url ?? "";
  token = loadToken(directory);
  document = (await (await fetch(`${url}/openapi.json`)).json()) as OpenApi;
});

after(async () => {
  await node.stop();
  rmSync(directory, { recursive: true, force: true });
});

interface Asked {
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly token?: string | null;
  readonly signal?: AbortSignal;
}

async function send(method: Method, path: string, asked: Asked = {}): Promise<Response> {
  const known = asked.token === undefined ? token : asked.token;
  return await fetch(`${url}${path}`, {
    method,
    redirect: "manual",
    headers: {
      ...(known === null ? {} : { authorization: `Bearer ${known}` }),
      ...(asked.body === undefined ? {} : { "content-type": "application/json" }),
      ...asked.headers,
    },
    ...(asked.body === undefined ? {} : { body: JSON.stringify(asked.body) }),
    ...(asked.signal === undefined ? {} : { signal: asked.signal }),
  });
}

/** The operation that a request is for; a path of the document may hold names in braces. */
function operationOf(method: Method, path: string): OperationObject {
  const plain = path.split("?")[0] ?? "";
  for (const [template, methods] of Object.entries(document.paths)) {
    const pattern = new RegExp(`^${template.replaceAll(/\{\w+\}/g, "[^/]+")}$`);
    const found = pattern.test(plain) ? methods[method.toLowerCase()] : undefined;
    if (found !== undefined) return found;
  }
  throw new Error(`the document has no ${method} ${path}`);
}

/** Calls an operation and checks status, type and body against the document. */
async function call(method: Method, path: string, asked: Asked = {}) {
  const response = await send(method, path, asked);
  const operation = operationOf(method, path);
  called.add(operation.operationId);
  const documented = operation.responses[response.status] ?? operation.responses["default"];
  assert.ok(documented !== undefined, `${operation.operationId}: ${response.status}`);
  const type = (response.headers.get("content-type") ?? "").split(";")[0] ?? "";
  const text = await response.text();
  if (documented.content === undefined) return { status: response.status, body: null, response };
  const schema = documented.content[type]?.schema;
  assert.ok(schema !== undefined, `${operation.operationId} answers with type "${type}"`);
  const isLines = type === "application/x-ndjson";
  const isJson = isLines || /json$/.test(type);
  const values = isLines ? text.trim().split("\n").map(parse) : [isJson ? parse(text) : text];
  for (const value of values) check(operation.operationId, { schema, value });
  return { status: response.status, body: isLines ? values : values[0], response };
}

function parse(text: string): unknown {
  return JSON.parse(text);
}

function check(name: string, { schema, value }: { schema: object; value: unknown }): void {
  const validate = validators.get(schema) ?? ajv.compile(schema);
  validators.set(schema, validate);
  assert.ok(validate(value), `${name}: ${ajv.errorsText(validate.errors)}`);
}

function vmBody(name: string) {
  return {
    name,
    kernel: tickerGuest(),
    initrd: null,
    cmdline: null,
    memory_bytes: 64 * 2 ** 20,
    copies: 1,
    witnesses: 0,
    engine: "auto",
  };
}

const lines = { accept: "application/x-ndjson" };

test("the document is valid OpenAPI 3.1", async () => {
  assert.equal(document.openapi, "3.1.0");
  const result = await new Validator().validate(
    structuredClone(document) as unknown as Record<string, unknown>,
  );
  assert.ok(result.valid, JSON.stringify(result.errors));
});

test("every operation answers as the document says", async () => {
  for (const path of ["/v1/status", "/v1/nodes", "/v1/nodes?limit=1", "/v1/tickets", "/metrics"]) {
    assert.equal((await call("GET", path)).status, 200, path);
  }
  const made = await call("POST", "/v1/vms", { body: vmBody("one") });
  assert.equal(made.status, 201);
  const { id } = made.body as { id: string };
  assert.equal(made.response.headers.get("location"), `/v1/vms/${id}`);
  const second = await call("POST", "/v1/vms", { body: vmBody("two"), headers: lines });
  assert.ok("vm" in ((second.body as object[]).at(-1) ?? {}));
  const page = await call("GET", "/v1/vms?limit=1");
  const { next } = page.body as { next: string };
  const rest = (await call("GET", `/v1/vms?limit=1&cursor=${next}`)).body as {
    vms: { name: string }[];
    next: null;
  };
  assert.deepEqual([rest.vms.map(({ name }) => name), rest.next], [["two"], null]);
  assert.equal((await call("GET", `/v1/vms/${id}`)).status, 200);
  assert.equal((await call("GET", "/v1/vms/one/history")).status, 200);
  assert.equal((await call("GET", "/v1/vms/one/placement")).status, 200);
  const input = { source: 7, seq: 1, data: Buffer.from("x").toString("base64") };
  for (const _ of ["once", "again"]) {
    assert.equal((await call("POST", "/v1/vms/one/input", { body: input })).status, 200);
  }
  assert.equal((await call("GET", "/v1/vms/one/console?offset=0")).status, 200);
  assert.equal((await call("GET", "/v1/vms/one/console/socket?offset=0")).status, 415);
  assert.equal((await call("GET", "/v1/events?follow=false")).status, 200);
  assert.equal((await call("POST", "/v1/vms/one/stop?timeout_s=1")).status, 200);
  assert.equal((await call("DELETE", "/v1/vms/one")).status, 200);
  assert.equal((await call("DELETE", "/v1/vms/two")).status, 200);
  assert.equal((await call("GET", "/v1/session")).status, 200);
  assert.equal((await call("POST", "/v1/session", { body: { token } })).status, 200);
  assert.equal((await call("DELETE", "/v1/session")).status, 200);
  const link = (await call("POST", "/v1/login-links")).body as { url: string };
  assert.equal((await call("GET", link.url.slice(url.length), { token: null })).status, 303);
});

test("tickets are made and revoked, nodes get roles and are removed, as the document says", async () => {
  const order = { roles: ["lend"], uses: 1, life_ms: 60_000 };
  const made = await call("POST", "/v1/tickets", { body: order });
  assert.equal(made.status, 200);
  const target = decodeTicket((made.body as { ticket: string }).ticket);
  const dataDir = mkdtempSync(join(tmpdir(), "node-mesh-api-guest-"));
  const listen = ["/ip4/127.0.0.1/tcp/0"];
  const guest = await openMesh({ dataDir, listen, meshKey: target.key, joins: true });
  try {
    await guest.join(target);
    const listed = (await call("GET", "/v1/tickets")).body as { tickets: { id: string }[] };
    const [ticket] = listed.tickets;
    assert.equal((await call("DELETE", `/v1/tickets/${ticket?.id}`)).status, 200);
    assert.equal((await call("DELETE", "/v1/tickets/none")).status, 404);
    const path = `/v1/nodes/${guest.id}`;
    assert.equal((await call("PUT", `${path}/roles`, { body: { roles: ["use"] } })).status, 200);
    assert.deepEqual(node.mesh.membership.rolesOf(guest.id), ["use"]);
    assert.equal((await call("PUT", `${path}/drain`, { body: { drain: true } })).status, 500);
    const self = `/v1/nodes/${node.mesh.id}`;
    assert.equal((await call("GET", `${self}/vms`)).status, 200);
    assert.equal((await call("PUT", `${self}/drain`, { body: { drain: false } })).status, 200);
    const there = { to: guest.id, from: null };
    assert.equal((await call("POST", "/v1/vms/none/move", { body: there })).status, 404);
    assert.equal((await call("POST", "/v1/vms/none/move", { body: { to: null } })).status, 404);
    assert.equal((await call("DELETE", path)).status, 200);
    assert.equal((await call("DELETE", `/v1/nodes/${node.mesh.id}`)).status, 400);
  } finally {
    await guest.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
});

test("no operation was left out", () => {
  const all = Object.values(document.paths).flatMap((methods) =>
    Object.values(methods).map(({ operationId }) => operationId),
  );
  assert.deepEqual(
    all.filter((id) => !called.has(id)),
    [],
  );
});

test("creating with a key twice makes one VM", async () => {
  const headers = { "idempotency-key": "a-key" };
  const ask = () => call("POST", "/v1/vms", { body: vmBody("once"), headers });
  const [first, second] = await Promise.all([ask(), ask()]);
  assert.deepEqual([first.status, second.status], [201, 201]);
  assert.equal((first.body as { id: string }).id, (second.body as { id: string }).id);
  const other = await call("POST", "/v1/vms", { body: vmBody("other"), headers });
  assert.equal((other.body as { type: string }).type, "urn:node-mesh:problem:mismatch");
  const without = await call("POST", "/v1/vms", { body: vmBody("once") });
  assert.equal((without.body as { type: string }).type, "urn:node-mesh:problem:exists");
  await call("DELETE", "/v1/vms/once");
});

test("strangers, other sites and other names get nothing", async () => {
  for (const wrong of [null, "", "nmt_wrong", "x".repeat(300)]) {
    const { status, response } = await call("GET", "/v1/vms", { token: wrong });
    assert.equal(status, 401);
    assert.equal(response.headers.get("www-authenticate"), "Bearer");
  }
  assert.equal((await call("POST", "/v1/session", { body: { token: "guess" } })).status, 401);
  for (const headers of [
    { origin: "http://evil.example" },
    { origin: "null" },
    { "sec-fetch-site": "cross-site" },
  ]) {
    const { status, response } = await call("GET", "/v1/vms", { headers });
    assert.equal(status, 403);
    assert.equal(response.headers.get("access-control-allow-origin"), null);
  }
  const preflight = await fetch(`${url}/v1/vms`, {
    method: "OPTIONS",
    headers: { origin: "http://evil.example", "access-control-request-method": "POST" },
  });
  assert.equal(preflight.status, 403);
  assert.match(await rawAnswer("GET /v1/vms HTTP/1.1\r\nHost: evil.example\r\n\r\n"), / 421 /);
  assert.match(await rawAnswer("GET / HTTP/1.1\r\nHost: evil.example:80\r\n\r\n"), / 421 /);
});

/** What the node says to these bytes. */
function rawAnswer(request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const { port, hostname } = new URL(url);
    const socket = connect(Number(port), hostname, () => socket.write(request));
    socket.once("data", (bytes) => {
      resolve(bytes.toString("latin1"));
      socket.destroy();
    });
    socket.once("error", reject);
  });
}

test("bodies and addresses that are huge or malformed are refused", async () => {
  const big = await call("POST", "/v1/vms", {
    body: { ...vmBody("big"), cmdline: "x".repeat(apiLimits.bodyBytesMax) },
  });
  assert.equal(big.status, 413);
  const json = { "content-type": "application/json", authorization: `Bearer ${token}` };
  for (const body of [
    "",
    "{",
    "[]",
    "null",
    '"x"',
    "\0",
    '{"name":1}',
    `{"a":${"[".repeat(5000)}`,
  ]) {
    const response = await fetch(`${url}/v1/vms`, { method: "POST", headers: json, body });
    assert.equal(response.status, 400, body.slice(0, 20));
    assert.match(response.headers.get("content-type") ?? "", /problem\+json/);
  }
  const odd = await fetch(`${url}/v1/vms`, {
    method: "POST",
    headers: { ...json, "content-type": "text/xml" },
    body: "<vm/>",
  });
  assert.equal(odd.status, 415);
  const names = ["%00", "..%2f..%2fetc", "a".repeat(65), "%F0%9F%92%A9", "%zz", "__proto__", "'"];
  for (const name of names) {
    const response = await send("GET", `/v1/vms/${name}`);
    assert.ok(response.status >= 400 && response.status < 500, `${name}: ${response.status}`);
  }
  for (const query of ["offset=-1", "offset=1e3", "offset=x", "follow=maybe"]) {
    assert.equal((await call("GET", `/v1/vms/x/console?${query}`)).status, 400, query);
  }
});

test("random requests get an answer of the document, never a fault", async () => {
  const strange = [null, true, -1, 1e308, "", "\u0000", "💩", [], {}, { a: [] }, "x".repeat(5000)];
  const pick = (index: number): unknown => strange[index % strange.length];
  const keys = Object.keys(vmBody("x"));
  for (let round = 0; round < 60; round += 1) {
    const body: Record<string, unknown> = vmBody(`fuzz-${round}`);
    body[keys[round % keys.length] ?? ""] = pick(round * 7);
    if (round % 3 === 0) body[`extra${round}`] = pick(round);
    const { status, body: answer } = await call("POST", "/v1/vms", { body });
    if (status === 201) await call("DELETE", `/v1/vms/fuzz-${round}`);
    else assert.ok(status !== 500, JSON.stringify({ body, answer }));
    const input = { source: pick(round), seq: pick(round + 3), data: pick(round + 5) };
    assert.equal((await call("POST", "/v1/vms/x/input", { body: input })).status, 400);
  }
});

test("the console by WebSocket: from an offset on, and what is typed twice arrives once", async () => {
  await call("POST", "/v1/vms", { body: { ...vmBody("echo"), kernel: guest("echo") } });
  const first = await openConsole("echo", 0);
  const typed = {
    kind: "input",
    source: 5,
    seq: 1,
    data: Buffer.from("hello\n").toString("base64"),
  };
  first.socket.send(JSON.stringify(typed));
  first.socket.send(JSON.stringify(typed));
  await first.until(() => first.acks.length === 2 && first.text().includes("hello"));
  first.socket.close();
  const again = await openConsole("echo", first.end());
  again.socket.send(JSON.stringify(typed));
  const next = { ...typed, seq: 2, data: Buffer.from("world\n").toString("base64") };
  again.socket.send(JSON.stringify(next));
  await again.until(() => again.text().includes("world"));
  const whole = first.text() + again.text();
  assert.equal(whole.split("hello").length, 2, whole);
  again.socket.send("{}");
  await again.closed;
  await call("DELETE", "/v1/vms/echo");
});

test("a WebSocket needs a token, this site and a VM that exists", async () => {
  const path = "/v1/vms/nobody/console/socket?offset=0";
  const upgrade = (extra: string): Promise<string> =>
    rawAnswer(
      `GET ${path} HTTP/1.1\r\nHost: ${new URL(url).host}\r\nConnection: Upgrade\r\n` +
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
        `Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${extra}\r\n`,
    );
  assert.match(await upgrade(""), / 401 /);
  assert.match(await upgrade(`Authorization: Bearer ${token}\r\n`), / 404 /);
  const foreign = `Authorization: Bearer ${token}\r\nOrigin: http://evil.example\r\n`;
  assert.match(await upgrade(foreign), / 403 /);
});

test("events go on behind the last one that was seen", async () => {
  const stop = new AbortController();
  const response = await send("GET", "/v1/events", { signal: stop.signal });
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const seen = collect(response);
  await call("POST", "/v1/vms", { body: vmBody("seen") });
  await seen.until(/"kind":"vm.created".*"vm":"seen"/s);
  stop.abort();
  const id = /^id: (\S+)$/gm.exec(seen.text())?.[1] ?? "";
  await call("DELETE", "/v1/vms/seen");
  const later = new AbortController();
  const resumed = collect(
    await send("GET", "/v1/events", {
      headers: { "last-event-id": id },
      signal: later.signal,
    }),
  );
  await resumed.until(/"kind":"vm.removed".*"vm":"seen"/s);
  assert.match(resumed.text(), /"vm.created"/);
  later.abort();
});

test("too many requests are told to wait", async () => {
  const statuses = new Set<number>();
  for (let sent = 0; sent <= 2 * apiLimits.requestsMax; sent += 50) {
    const some = Array.from({ length: 50 }, () => send("GET", "/v1/session"));
    for (const response of await Promise.all(some)) {
      statuses.add(response.status);
      await response.arrayBuffer();
    }
  }
  assert.deepEqual([...statuses].sort(), [200, 429]);
});

function guest(name: string): string {
  return tickerGuest().replace(/ticker\.elf$/, `${name}.elf`);
}

async function waitUntil(holds: () => boolean, what: () => string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function collect(response: Response) {
  let text = "";
  void (async () => {
    const decoder = new TextDecoder();
    for await (const piece of response.body ?? []) text += decoder.decode(piece, { stream: true });
  })().catch(() => {});
  return {
    text: () => text,
    until: (pattern: RegExp) =>
      waitUntil(
        () => pattern.test(text),
        () => text,
      ),
  };
}

async function openConsole(name: string, offset: number) {
  const address = `${url.replace("http", "ws")}/v1/vms/${name}/console/socket?offset=${offset}`;
  // Node's own client takes headers; browsers have their cookie.
  const options = { headers: { authorization: `Bearer ${token}` } } as unknown as string[];
  const socket = new WebSocket(address, options);
  socket.binaryType = "arraybuffer";
  let text = "";
  let end = offset;
  const acks: number[] = [];
  const closed = new Promise((resolve) => socket.addEventListener("close", resolve));
  socket.addEventListener("message", ({ data }) => {
    if (typeof data === "string") {
      const line = JSON.parse(data) as { kind: string; seq: number };
      if (line.kind === "ack") acks.push(line.seq);
      return;
    }
    const bytes = Buffer.from(data as ArrayBuffer);
    assert.equal(Number(bytes.readBigUInt64BE()), end);
    text += bytes.subarray(8).toString("latin1");
    end += bytes.length - 8;
  });
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", reject);
  });
  const until = (holds: () => boolean) => waitUntil(holds, () => `${text} ${acks}`);
  return { socket, acks, closed, text: () => text, end: () => end, until };
}
