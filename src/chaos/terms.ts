/** Who was the primary of which VM in which term, as all nodes tell it. At most one may be. */
import { delay, type NodeProcess } from "../demo/cluster.ts";

const pollMs = 100;

export class Terms {
  /** "vm term" -> nodes that said they were live in it. */
  readonly #primaries = new Map<string, Set<string>>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  /** Asks those nodes that `reachable` names, again and again until it is closed. */
  constructor(reachable: () => readonly NodeProcess[]) {
    this.#running = this.#watch(reachable);
  }

  note(seen: { readonly vm: string; readonly term: number; readonly node: string }): void {
    const key = `${seen.vm} in term ${seen.term}`;
    const nodes = this.#primaries.get(key) ?? new Set();
    nodes.add(seen.node);
    this.#primaries.set(key, nodes);
  }

  fault(): string | null {
    for (const [key, nodes] of this.#primaries) {
      if (nodes.size > 1) return `${key} had ${nodes.size} primaries: ${[...nodes].join(", ")}`;
    }
    return this.#primaries.size === 0 ? "no primary was seen" : null;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  /** Asks each node for its own copies: what it says of itself needs no other node. */
  async #watch(reachable: () => readonly NodeProcess[]): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await Promise.all(reachable().map((node) => this.#ask(node).catch(() => {})));
      await delay(pollMs);
    }
  }

  async #ask(node: NodeProcess): Promise<void> {
    const { copies } = await node.client.status();
    for (const copy of copies) {
      if (copy.leader && copy.state === "live") {
        this.note({ vm: copy.name, term: copy.term, node: node.name });
      }
    }
  }
}
