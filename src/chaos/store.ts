/**
 * A key-value store inside a VM and clients that use it all the while: requests are typed on the
 * VM's console, answers are lines of it. What the clients saw is the history that is judged. A
 * request that could not be handed in for certain stays without an answer, as for any client.
 */
import type { NodeProcess } from "../demo/cluster.ts";
import { delay, until } from "../demo/cluster.ts";
import type { Prng } from "../prng.ts";
import { nothing, type Operation, type Request } from "./linearizability.ts";
import type { Watch } from "./watch.ts";

const keys = ["a", "b", "c"] as const;
/** A client gives a request up after this, and goes on as another client. */
const answerMs = 20_000;
const retryMs = 100;
const betweenMs = 30;
const readyMs = 30_000;
const sourceMax = 2 ** 48;

/** Serves "put ID KEY VALUE", "get ID KEY" and "swap ID KEY FROM TO" with "done ID ANSWER". */
const server = [
  'function d(v){print "done",$2,v;fflush()}',
  'function g(k){return (k in s)?s[k]:"none"}',
  'BEGIN{print "store","ready";fflush()}',
  '$1=="put"{s[$3]=$4;d($4)}',
  '$1=="get"{d(g($3))}',
  '$1=="swap"{if(g($3)==$4){s[$3]=$5;d("yes")}else d("no")}',
].join(" ");

export interface StoreOptions {
  readonly vm: string;
  readonly watch: Watch;
  readonly clients: number;
  readonly prng: Prng;
  /** A node to hand a request to. */
  readonly choose: () => NodeProcess;
}

/** One client's own numbering of what it types. */
interface Typist {
  readonly source: number;
  seq: number;
}

export class Store {
  readonly #options: StoreOptions;
  readonly #stop = new AbortController();
  readonly #waiting = new Map<string, (answer: string) => void>();
  readonly #operations: Operation[] = [];
  #running: Promise<unknown> = Promise.resolve();
  #ready = false;
  #answers = 0;

  constructor(options: StoreOptions) {
    this.#options = options;
    options.watch.onLine((line) => this.#line(line));
  }

  get answers(): number {
    return this.#answers;
  }

  history(): readonly Operation[] {
    return this.#operations;
  }

  async open(): Promise<void> {
    const typist = this.#newTypist();
    await this.#type(typist, `stty -echo; exec awk '${server}'\n`, performance.now() + readyMs);
    await until(`the store in ${this.#options.vm}`, readyMs, async () => this.#ready);
    const { clients } = this.#options;
    this.#running = Promise.all(Array.from({ length: clients }, (_, index) => this.#use(index)));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #line(line: string): void {
    if (line === "store ready") this.#ready = true;
    const [, id, answer] = /^done (\S+) (\S+)$/.exec(line) ?? [];
    if (id === undefined || answer === undefined) return;
    this.#waiting.get(id)?.(answer);
    this.#waiting.delete(id);
  }

  async #use(client: number): Promise<void> {
    const prng = this.#options.prng.fork();
    let typist = this.#newTypist();
    let lastSeen: string = nothing;
    for (let turn = 1; !this.#stop.signal.aborted; turn += 1) {
      const id = `c${client}-${turn}`;
      const request = prng.pick<Request>([
        { kind: "put", value: id },
        { kind: "get" },
        { kind: "swap", from: lastSeen, to: `${id}s` },
      ]);
      const answer = await this.#ask(typist, { id, key: prng.pick(keys), request });
      if (answer === null) typist = this.#newTypist();
      else if (request.kind !== "swap") lastSeen = answer;
      await delay(betweenMs);
    }
  }

  async #ask(
    typist: Typist,
    one: { readonly id: string; readonly key: string; readonly request: Request },
  ): Promise<string | null> {
    const calledMs = performance.now();
    const deadlineMs = calledMs + answerMs;
    const answer = new Promise<string | null>((resolve) => {
      const late = setTimeout(() => resolve(null), answerMs);
      const end = (): void => resolve(null);
      this.#stop.signal.addEventListener("abort", end, { once: true });
      this.#waiting.set(one.id, (text) => {
        clearTimeout(late);
        this.#stop.signal.removeEventListener("abort", end);
        resolve(text);
      });
    });
    const typed = this.#type(typist, `${wordsOf(one).join(" ")}\n`, deadlineMs);
    const output = await answer;
    const answeredMs = output === null ? Number.POSITIVE_INFINITY : performance.now();
    this.#operations.push({ ...one, calledMs, answeredMs, output });
    if (output !== null) this.#answers += 1;
    await typed;
    return output;
  }

  /** Types a line, again and again until it is committed; the VM takes it once. */
  async #type(typist: Typist, line: string, deadlineMs: number): Promise<void> {
    typist.seq += 1;
    const body = {
      source: typist.source,
      seq: typist.seq,
      data: Buffer.from(line).toString("base64"),
    };
    while (!this.#stop.signal.aborted && performance.now() < deadlineMs) {
      try {
        const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(answerMs / 10)]);
        await this.#options.choose().client.input(this.#options.vm, body, { signal });
        return;
      } catch {
        await delay(retryMs);
      }
    }
  }

  #newTypist(): Typist {
    return { source: this.#options.prng.between(1, sourceMax), seq: 0 };
  }
}

function wordsOf(one: {
  readonly id: string;
  readonly key: string;
  readonly request: Request;
}): string[] {
  const { id, key, request } = one;
  if (request.kind === "put") return ["put", id, key, request.value];
  if (request.kind === "get") return ["get", id, key];
  return ["swap", id, key, request.from, request.to];
}
