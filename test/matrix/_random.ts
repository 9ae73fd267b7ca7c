/** Seeded numbers: a failed test says its seed, NODE_MESH_SEED sets it. */

/** Uniform in [0, 1), by the generator "mulberry32" of public domain. */
export class SeededRandom {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed >>> 0;
    this.#state = this.seed;
  }

  /** From the environment, else from the clock: each run tries other places. */
  static fromEnvironment(): SeededRandom {
    const given = process.env["NODE_MESH_SEED"];
    return new SeededRandom(given === undefined ? Date.now() : Number(given));
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }
}
