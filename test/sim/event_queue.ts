/**
 * The simulated clock: what happens next, in order of time and, at the same time, in the order it
 * was planned. Nothing in a simulation happens outside of it.
 */

interface Planned {
  readonly atMs: number;
  readonly order: number;
  readonly action: () => void;
}

export class EventQueue {
  /** A binary heap: the earliest is at [0]. */
  readonly #heap: Planned[] = [];
  #order = 0;
  #nowMs = 0;

  get nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, action: () => void): void {
    const planned = { atMs: this.#nowMs + delayMs, order: this.#order, action };
    this.#order += 1;
    const heap = this.#heap;
    let i = heap.length;
    heap.push(planned);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isBefore(planned, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = planned;
  }

  /** Does what comes next; false when that would be after `untilMs` or nothing is planned. */
  step(untilMs: number): boolean {
    const first = this.#heap[0];
    if (first === undefined || first.atMs > untilMs) return false;
    this.#removeFirst();
    this.#nowMs = first.atMs;
    first.action();
    return true;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    const size = heap.length;
    if (size === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

function isBefore(a: Planned, b: Planned): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
