/**
 * What the page knows of the mesh: fetched once a second, at once when an event says that something
 * changed, and more often while a VM is not steady. The page's parts subscribe; only this asks.
 */
import { useEffect, useState } from "preact/hooks";
import {
  api,
  type MeshEvent,
  type NodeView,
  SignedOutError,
  type Status,
  type VmView,
} from "./api.ts";

const calmMs = 1_000;
const unsteadyMs = 250;
const hiddenMs = 10_000;
const settleMs = 40;
const eventsMax = 200;

export interface MeshState {
  /** Null until the first answer. */
  readonly status: Status | null;
  readonly nodes: readonly NodeView[];
  readonly vms: readonly VmView[];
  readonly events: readonly MeshEvent[];
  readonly signedIn: boolean;
  /** The node has not answered since then. */
  readonly lostSinceMs: number | null;
}

type Listener = () => void;

class MeshStore {
  #state: MeshState = {
    status: null,
    nodes: [],
    vms: [],
    events: [],
    signedIn: true,
    lostSinceMs: null,
  };
  readonly #listeners = new Set<Listener>();
  #timer: number | undefined;
  #asking = false;
  #again = false;
  #stream: EventSource | null = null;

  get state(): MeshState {
    return this.#state;
  }

  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  start(): void {
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.refresh();
    });
    this.refresh();
  }

  /** Asks now, or once more when the question under way is answered. */
  refresh(): void {
    if (this.#asking) this.#again = true;
    else void this.#ask();
  }

  signedIn(): void {
    this.#set({ signedIn: true });
    this.refresh();
  }

  signedOut(): void {
    this.#stream?.close();
    this.#stream = null;
    this.#set({ signedIn: false, status: null, nodes: [], vms: [], events: [] });
  }

  async #ask(): Promise<void> {
    window.clearTimeout(this.#timer);
    this.#asking = true;
    this.#again = false;
    try {
      const [status, nodes, vms] = await Promise.all([api.status(), api.nodes(), api.vms()]);
      this.#set({ status, nodes, vms, signedIn: true, lostSinceMs: null });
      this.#follow();
    } catch (error) {
      if (error instanceof SignedOutError) this.signedOut();
      else this.#set({ lostSinceMs: this.#state.lostSinceMs ?? Date.now() });
    }
    this.#asking = false;
    if (this.#state.signedIn) {
      this.#timer = window.setTimeout(() => this.refresh(), this.#again ? settleMs : this.#pause());
    }
  }

  #pause(): number {
    if (document.hidden) return hiddenMs;
    const steady = this.#state.vms.every(({ state }) => state === "running" || state === "ended");
    return steady ? calmMs : unsteadyMs;
  }

  #follow(): void {
    if (this.#stream !== null && this.#stream.readyState !== EventSource.CLOSED) return;
    // The newest events first, so that a page that is opened late has something to tell.
    const first = this.#stream === null;
    this.#stream = new EventSource("/v1/events");
    this.#stream.onmessage = ({ data }) => this.#event(JSON.parse(String(data)) as MeshEvent);
    if (first) void this.#recent();
  }

  async #recent(): Promise<void> {
    try {
      const response = await fetch("/v1/events?follow=false");
      if (!response.ok) return;
      const { events } = (await response.json()) as { events: MeshEvent[] };
      this.#set({ events: merge(events, this.#state.events) });
    } catch {
      // The stream goes on without it.
    }
  }

  #event(event: MeshEvent): void {
    this.#set({ events: merge(this.#state.events, [event]) });
    this.refresh();
  }

  #set(change: Partial<MeshState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}

function merge(a: readonly MeshEvent[], b: readonly MeshEvent[]): readonly MeshEvent[] {
  const byId = new Map([...a, ...b].map((event) => [event.id, event]));
  return [...byId.values()].slice(-eventsMax);
}

export const store = new MeshStore();

/** The state, and a new drawing whenever it changes. */
export function useMesh(): MeshState {
  const [state, setState] = useState(store.state);
  useEffect(() => store.subscribe(() => setState(store.state)), []);
  return state;
}
