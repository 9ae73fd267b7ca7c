/**
 * Requests between nodes: one libp2p stream for each, CBOR checked against a schema at both ends,
 * with limits on size and time. A method may answer once or with a stream of items; then the caller
 * gives credit as it takes them, so that a slow caller holds the handler up and nothing piles up.
 */

import type { Static, TSchema } from "@sinclair/typebox";
import { Codec, SchemaError } from "../cbor.ts";
import type { Refusals } from "../counters.ts";
import { rpcLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import { type RpcStream, type RpcWire, serveItems, takeItems, untilAborted } from "./_rpc_wire.ts";

export interface RpcMethod<Req extends TSchema, Res extends TSchema> {
  readonly name: string;
  readonly request: Codec<Req>;
  readonly response: Codec<Res>;
}

export interface RpcStreamMethod<Req extends TSchema, Item extends TSchema> {
  readonly name: string;
  readonly request: Codec<Req>;
  readonly item: Codec<Item>;
}

export interface RpcContext {
  readonly from: NodeId;
  /** Aborted when the caller went away, the time is over, or the node stops. */
  readonly signal: AbortSignal;
}

/** The far end's handler failed; the message is its own. */
export class RpcRemoteError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "RpcRemoteError";
  }
}

/** The far end could not be asked, or its answer did not come; whether it acted is not known. */
export class RpcUnreachableError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "RpcUnreachableError";
  }
}

export function defineRpc<Req extends TSchema, Res extends TSchema>(definition: {
  name: string;
  request: Req;
  response: Res;
}): RpcMethod<Req, Res> {
  const { name, request, response } = definition;
  return {
    name,
    request: new Codec(`request "${name}"`, request),
    response: new Codec(`response of "${name}"`, response),
  };
}

export function defineRpcStream<Req extends TSchema, Item extends TSchema>(definition: {
  name: string;
  request: Req;
  item: Item;
}): RpcStreamMethod<Req, Item> {
  const { name, request, item } = definition;
  return {
    name,
    request: new Codec(`request "${name}"`, request),
    item: new Codec(`item of "${name}"`, item),
  };
}

interface UnaryServer {
  readonly kind: "unary";
  run(body: unknown, context: RpcContext): Promise<Uint8Array>;
}

interface StreamServer {
  readonly kind: "stream";
  run(body: unknown, context: RpcContext): AsyncIterable<Uint8Array>;
}

export interface RpcInit {
  readonly self: NodeId;
  readonly wire: RpcWire;
  /** Whom to answer at all. */
  readonly mayAsk?: (from: NodeId) => boolean;
  readonly refusals: Refusals;
}

function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s+/g, " ").slice(0, rpcLimits.errorCharsMax);
}

export class Rpc {
  readonly #init: RpcInit;
  readonly #servers = new Map<string, UnaryServer | StreamServer>();
  readonly #stopping = new AbortController();
  readonly #serving = new Set<Promise<void>>();

  constructor(init: RpcInit) {
    this.#init = init;
  }

  async start(): Promise<void> {
    await this.#init.wire.listen((stream, from) => {
      const task = this.#serve(stream, from).finally(() => this.#serving.delete(task));
      this.#serving.add(task);
    });
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error("the node is stopping"));
    const limit = Promise.withResolvers<void>();
    const timer = setTimeout(limit.resolve, rpcLimits.stopWaitMs);
    await Promise.race([Promise.all(this.#serving), limit.promise]);
    clearTimeout(timer);
  }

  /** Answers a method; the returned function takes the answer away again. */
  register<Req extends TSchema, Res extends TSchema>(
    method: RpcMethod<Req, Res>,
    handler: (request: Static<Req>, context: RpcContext) => Static<Res> | Promise<Static<Res>>,
  ): () => void {
    return this.#add(method.name, {
      kind: "unary",
      run: async (body, context) => {
        const request = method.request.check(body);
        return method.response.encode(await handler(request, context));
      },
    });
  }

  /** Answers a method with a stream of items; its signal is aborted when the caller goes away. */
  registerStream<Req extends TSchema, Item extends TSchema>(
    method: RpcStreamMethod<Req, Item>,
    handler: (request: Static<Req>, context: RpcContext) => AsyncIterable<Static<Item>>,
  ): () => void {
    return this.#add(method.name, {
      kind: "stream",
      run: (body, context) => {
        const items = handler(method.request.check(body), context);
        return (async function* encoded() {
          for await (const item of items) yield method.item.encode(item);
        })();
      },
    });
  }

  #add(name: string, server: UnaryServer | StreamServer): () => void {
    if (this.#servers.has(name)) throw new TypeError(`Cannot register "${name}": it is taken`);
    this.#servers.set(name, server);
    return () => {
      if (this.#servers.get(name) === server) this.#servers.delete(name);
    };
  }

  async #serve(stream: RpcStream, from: NodeId): Promise<void> {
    const { counters } = this.#init.refusals;
    if (this.#init.mayAsk?.(from) === false) {
      this.#init.refusals.note("strangers_refused", { peer: from }, `Refused to answer ${from}`);
      stream.abort();
      return;
    }
    const signal = AbortSignal.any([this.#stopping.signal, stream.closed]);
    try {
      const { method, body } = await stream.readRequest(signal);
      counters.add("rpc_served");
      const server = this.#servers.get(method);
      if (server === undefined) throw new SchemaError(`there is no method "${method}"`);
      const context = { from, signal };
      if (server.kind === "unary") {
        await stream.writeResult(await server.run(body, context), signal);
      } else {
        await serveItems(stream, server.run(body, context), signal);
      }
      await stream.end(signal);
    } catch (error) {
      if (error instanceof SchemaError) {
        const message = `Refused a request of ${from}: ${oneLine(error)}`;
        this.#init.refusals.note("rpc_refused", { peer: from }, message);
      }
      // A node that stops is as good as gone; its handlers' last words would look like answers.
      if (this.#stopping.signal.aborted) stream.abort();
      else await stream.fail(oneLine(error));
    }
  }

  /** Asks `peer`, which may be this node itself. */
  async call<Req extends TSchema, Res extends TSchema>(
    peer: NodeId,
    method: RpcMethod<Req, Res>,
    request: Static<Req>,
    options: { signal?: AbortSignal | undefined; timeoutMs?: number } = {},
  ): Promise<Static<Res>> {
    const limit = AbortSignal.timeout(options.timeoutMs ?? rpcLimits.timeoutMs);
    const signals = [limit, this.#stopping.signal];
    if (options.signal !== undefined) signals.push(options.signal);
    const signal = AbortSignal.any(signals);
    const body = method.request.check(request);
    if (peer === this.#init.self) return this.#callSelf(method, body, signal);
    let stream: RpcStream | null = null;
    try {
      stream = await this.#init.wire.open(peer, signal);
      await stream.writeRequest(method.name, body, signal);
      const answer = await stream.readAnswer(signal);
      if (answer.error !== undefined) throw new RpcRemoteError(answer.error);
      const result = method.response.decode(answer.result ?? new Uint8Array());
      await stream.end(signal);
      return result;
    } catch (error) {
      stream?.abort();
      throw this.#callError(error, { peer, name: method.name, signal: options.signal, limit });
    }
  }

  async #callSelf<Req extends TSchema, Res extends TSchema>(
    method: RpcMethod<Req, Res>,
    body: unknown,
    signal: AbortSignal,
  ): Promise<Static<Res>> {
    const server = this.#servers.get(method.name);
    if (server?.kind !== "unary") throw new RpcRemoteError(`there is no method "${method.name}"`);
    try {
      return method.response.decode(await server.run(body, { from: this.#init.self, signal }));
    } catch (error) {
      throw new RpcRemoteError(oneLine(error));
    }
  }

  #callError(
    error: unknown,
    call: { peer: NodeId; name: string; signal: AbortSignal | undefined; limit?: AbortSignal },
  ): unknown {
    if (error instanceof RpcRemoteError) return error;
    // The caller's own abort is the caller's reason, not a failure of the peer.
    if (call.signal?.aborted) return call.signal.reason;
    const why = call.limit?.aborted ? "no answer in time" : oneLine(error);
    const text = `Cannot ask ${call.peer} for "${call.name}": ${why}`;
    return new RpcUnreachableError(text, { cause: error });
  }

  /** Items as the far end makes them; leaving the loop ends the far end's handler. */
  async *stream<Req extends TSchema, Item extends TSchema>(
    peer: NodeId,
    method: RpcStreamMethod<Req, Item>,
    request: Static<Req>,
    options: { signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<Static<Item>, void, undefined> {
    const done = new AbortController();
    const signals = [done.signal, this.#stopping.signal];
    if (options.signal !== undefined) signals.push(options.signal);
    const signal = AbortSignal.any(signals);
    const body = method.request.check(request);
    let stream: RpcStream | null = null;
    try {
      if (peer === this.#init.self) {
        const server = this.#servers.get(method.name);
        if (server?.kind !== "stream") throw new RpcRemoteError(`there is no "${method.name}"`);
        const items = server.run(body, { from: this.#init.self, signal });
        for await (const item of untilAborted(items, signal)) yield method.item.decode(item);
        return;
      }
      stream = await this.#init.wire.open(peer, AbortSignal.any([signal, openLimit()]));
      await stream.writeRequest(method.name, body, signal);
      for await (const item of takeItems(stream, signal)) {
        if (item.error !== undefined) throw new RpcRemoteError(item.error);
        yield method.item.decode(item.result ?? new Uint8Array());
      }
    } catch (error) {
      throw this.#callError(error, { peer, name: method.name, signal: options.signal });
    } finally {
      done.abort(new Error("the caller left"));
      stream?.abort();
    }
  }
}

function openLimit(): AbortSignal {
  return AbortSignal.timeout(rpcLimits.timeoutMs);
}
