/** The API by TLS, under the names of its certificate alone. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startDaemon } from "../daemon/daemon.ts";
import { loadToken } from "./access.ts";

/** Status of a request that is addressed to `name`, and the cookie that it sets. */
function ask(
  port: number,
  options: { name: string; path: string; ca: string; token?: string },
): Promise<{ status: number; cookie: string }> {
  const { name, path, ca, token } = options;
  return new Promise((resolve, reject) => {
    const headers = {
      host: `${name}:${port}`,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    };
    const common = { host: "127.0.0.1", port, path, ca, headers, servername: "mesh.example" };
    request(common, (response) => {
      response.resume();
      const cookie = String(response.headers["set-cookie"] ?? "");
      resolve({ status: response.statusCode ?? 0, cookie });
    })
      .once("error", reject)
      .end();
  });
}

test("with a certificate others may reach it, by its names and with the token", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "node-mesh-tls-"));
  const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  const made = spawnSync("openssl", [
    ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=mesh"],
    ...["-addext", "subjectAltName=DNS:mesh.example", "-keyout", key, "-out", cert],
  ]);
  if (made.status !== 0) {
    context.skip("openssl is not here to make a certificate");
    return;
  }
  const listen = ["/ip4/127.0.0.1/tcp/0"];
  const api = { host: "0.0.0.0", port: 0, cert, key };
  const node = await startDaemon({ dataDir: join(directory, "data"), listen, name: "tls", api });
  try {
    assert.match(node.api.url ?? "", /^https:\/\/mesh\.example:\d+$/);
    const port = Number(new URL(node.api.url ?? "").port);
    const token = loadToken(join(directory, "data"));
    const ca = readFileSync(cert, "utf8");
    const status = async (name: string, given?: string): Promise<number> =>
      (
        await ask(port, {
          ...{ name, path: "/v1/status", ca },
          ...(given === undefined ? {} : { token: given }),
        })
      ).status;
    assert.equal(await status("mesh.example", token), 200);
    assert.equal(await status("mesh.example"), 401);
    assert.equal(await status("other.example", token), 421);
  } finally {
    await node.stop();
    rmSync(directory, { recursive: true, force: true });
  }
});
