/** Asks the node's API; what it refuses comes as one line for the user. */
import type {
  CreateLine,
  NodeView,
  Problem,
  Status,
  VmHistory,
  VmRequest,
  VmView,
} from "../api/schemas.ts";

export type { MemberView, MeshEvent, NodeView, Status, VmHistory, VmView } from "../api/schemas.ts";

/** The browser is not signed in, or not any more. */
export class SignedOutError extends Error {
  override name = "SignedOutError";
}

const answerMs = 15_000;

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const signal = init.signal ?? AbortSignal.timeout(answerMs);
  const response = await fetch(path, { ...init, signal, credentials: "same-origin" });
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401) throw new SignedOutError(problem);
  throw new Error(problem);
}

async function problemOf(response: Response): Promise<string> {
  try {
    return ((await response.json()) as Problem).detail;
  } catch {
    return `Cannot ask the node: it answered with status ${response.status}; try again`;
  }
}

async function json<T>(path: string, init?: RequestInit): Promise<T> {
  return (await (await ask(path, init)).json()) as T;
}

function withBody(method: string, body: object): RequestInit {
  const headers = { "content-type": "application/json" };
  return { method, headers, body: JSON.stringify(body) };
}

function vmPath(id: string): string {
  return `/v1/vms/${encodeURIComponent(id)}`;
}

export const api = {
  status: () => json<Status>("/v1/status"),
  nodes: async () => (await json<{ nodes: NodeView[] }>("/v1/nodes")).nodes,
  vms: async () => (await json<{ vms: VmView[] }>("/v1/vms")).vms,
  history: (id: string) => json<VmHistory>(`${vmPath(id)}/history`),
  signIn: (token: string) => json<object>("/v1/session", withBody("POST", { token })),
  signOut: () => json<object>("/v1/session", { method: "DELETE" }),
  stop: (id: string) =>
    json<object>(`${vmPath(id)}/stop`, { method: "POST", signal: AbortSignal.timeout(90_000) }),
  remove: (id: string) =>
    json<object>(vmPath(id), { method: "DELETE", signal: AbortSignal.timeout(90_000) }),
  create,
  move,
} as const;

type OnProgress = (text: string) => void;

/** Makes a VM; the same key again is the same VM. */
function create(
  request: VmRequest,
  options: { readonly key: string; readonly onProgress: OnProgress },
): Promise<VmView> {
  const headers = { "idempotency-key": options.key };
  return withProgress("/v1/vms", { body: request, headers, onProgress: options.onProgress });
}

/** Moves the primary's copy to another node while it runs. */
function move(
  id: string,
  options: { readonly to: string; readonly onProgress: OnProgress },
): Promise<VmView> {
  const { to, onProgress } = options;
  return withProgress(`${vmPath(id)}/move`, { body: { to, from: null }, headers: {}, onProgress });
}

async function withProgress(
  path: string,
  call: {
    readonly body: object;
    readonly headers: Readonly<Record<string, string>>;
    readonly onProgress: OnProgress;
  },
): Promise<VmView> {
  const init = withBody("POST", call.body);
  const headers = { ...init.headers, ...call.headers, accept: "application/x-ndjson" };
  const response = await ask(path, { ...init, headers, signal: AbortSignal.timeout(300_000) });
  for await (const line of linesOf(response)) {
    const said = JSON.parse(line) as CreateLine;
    if ("progress" in said) call.onProgress(said.progress);
    else if ("problem" in said) throw new Error(said.problem.detail);
    else return said.vm;
  }
  throw new Error("Cannot tell what became of the VM: the answer was cut off; look at the list");
}

async function* linesOf(response: Response): AsyncGenerator<string> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const piece = await reader?.read();
    if (piece === undefined || piece.done) break;
    const lines = (rest + piece.value).split("\n");
    rest = lines.pop() ?? "";
    yield* lines.filter((line) => line !== "");
  }
}
