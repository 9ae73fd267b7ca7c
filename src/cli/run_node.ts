/**
 * A node in the foreground, as `up` and `join` run it: start, a block that says what it is, what
 * happens as it happens, and a clean end.
 */
import { hostname } from "node:os";
import type { JoinTarget } from "../../mesh/mod.ts";
import { type Daemon, startDaemon } from "../daemon/daemon.ts";
import { cannot, oneLine } from "../user_error.ts";
import { version } from "../version.ts";
import { dataDirOf, interruption, UsageError } from "./context.ts";
import { detach } from "./detach.ts";
import { apiOptions, defaultListen, listenAddress, type NodeOptions } from "./node_options.ts";
import { facts, print } from "./output.ts";

/** A node that cannot end in order within this time is ended anyway. */
const stopMsMax = 8_000;

export async function runNode(
  options: NodeOptions,
  admission: { readonly join?: JoinTarget },
): Promise<void> {
  const dataDir = dataDirOf(options);
  if (options.daemon === true) {
    await detach(dataDir);
    return;
  }
  const stop = interruption();
  const api = apiOptions(options);
  const name = checkName(options.name ?? hostname());
  const daemon = await startDaemon({
    dataDir,
    listen: (options.listen ?? [defaultListen]).map(listenAddress),
    name,
    ...(api === undefined ? {} : { api }),
    logging: {
      ...(options.logLevel === undefined ? {} : { level: options.logLevel }),
      ...(options.logFormat === undefined ? {} : { format: options.logFormat }),
    },
    ...admission,
    ...(options.bootstrap === undefined ? {} : { bootstrap: options.bootstrap }),
    ...(options.domain === undefined ? {} : { domain: options.domain }),
    ...(options.replaceAfter === undefined ? {} : { replaceAfterMs: options.replaceAfter }),
  });
  logFaults(daemon);
  print(startBlock(daemon, dataDir));
  const quiet = followEvents(daemon);
  if (admission.join !== undefined) await joinMesh(daemon, admission.join, stop);
  await aborted(stop);
  quiet();
  print("stopping\n");
  const late = setTimeout(() => process.exit(1), stopMsMax);
  await daemon.stop();
  clearTimeout(late);
  process.exit(0);
}

function checkName(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) return name;
  throw new UsageError(
    `Cannot use name "${oneLine(name)}": it is not 1 to 63 letters, digits, ".", "_" or "-"; ` +
      "give another one with --name",
  );
}

function startBlock(daemon: Daemon, dataDir: string): string {
  const { mesh } = daemon;
  const rows: [string, string][] = [
    ["node", `${mesh.name}  ${mesh.id}`],
    ["data", dataDir],
    ...mesh.node.addresses().map((address): [string, string] => ["listens on", address]),
  ];
  if (daemon.api.url !== null) {
    rows.push(["API", `${daemon.api.url}  (see: node-mesh dashboard)`]);
  }
  const held = daemon.host.all().length;
  if (held > 0) rows.push(["holds", `${held} ${held === 1 ? "VM" : "VMs"}`]);
  return (
    `node-mesh ${version} is up\n${facts(rows)}` +
    "Others join with what this prints: node-mesh ticket\nCtrl-C ends it.\n"
  );
}

/** Peers that come and go, for whoever watches. */
function followEvents(daemon: Daemon): () => void {
  return daemon.mesh.node.onPeer(({ kind, id }) => {
    const what = kind === "up" ? "is connected" : "is gone";
    print(`${new Date().toISOString().slice(11, 19)} node ${daemon.router.nameOf(id)} ${what}\n`);
  });
}

async function joinMesh(daemon: Daemon, target: JoinTarget, stop: AbortSignal): Promise<void> {
  try {
    const peer = await daemon.mesh.join(target, { signal: stop });
    print(`joined through ${daemon.router.nameOf(peer)}\n`);
  } catch (error) {
    await daemon.stop();
    if (stop.aborted) process.exit(0);
    const remedy = "check that it is up, and that the ticket is its own";
    throw /^Cannot /.test(oneLine(error))
      ? error
      : cannot("join", target.addrs[0] ?? "", { why: oneLine(error), remedy });
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** A fault in one corner is written down; it ends the node only where its state may be wrong. */
function logFaults(daemon: Daemon): void {
  process.removeAllListeners("unhandledRejection").removeAllListeners("uncaughtException");
  process.on("unhandledRejection", (reason) => {
    const trace = reason instanceof Error ? reason.stack : undefined;
    daemon.log.error({ why: oneLine(reason), trace }, "a promise was rejected unseen");
  });
  process.on("uncaughtException", (error) => {
    daemon.log.error({ why: oneLine(error), trace: error.stack }, "the node failed");
    process.stderr.write(`Cannot go on: ${oneLine(error)}; see the node's log\n`);
    process.exit(1);
  });
}
