/**
 * A network of its own for the nodes of a scenario: one namespace for each node, joined by a
 * bridge; faults are rules of the namespaces' packet filters. Connections are never closed by a
 * fault: they fall silent, as on a real wire. Needs root, `ip`, `nft` and, for slow links, `tc`.
 */
import { command, probe, quietly } from "./command.ts";

/** A link that is slowed queues for at most this long, as a home router does. */
const queueMs = 400;

interface Faults {
  /** Numbers of the nodes to which nothing is sent any more. */
  readonly silentTo: Set<number>;
  lossPercent: number;
  rateBits: number;
}

export class Network {
  readonly #tag: string;
  readonly #faults = new Map<number, Faults>();

  /** Why this machine cannot have one; null when it can. */
  static missing(): string | null {
    const name = `nm${process.pid % 100_000}probe`;
    return probe("network namespaces", () => {
      try {
        command(["ip", "netns", "add", name]);
        command(["ip", "netns", "exec", name, "nft", "list", "ruleset"]);
      } finally {
        quietly(["ip", "netns", "del", name]);
      }
    });
  }

  /** Nodes are numbered from 1; node N has the address 10.77.0.N. */
  constructor(count: number) {
    this.#tag = `nm${process.pid % 100_000}`;
    const bridge = this.#bridge;
    try {
      command(["ip", "netns", "add", bridge]);
      command(["ip", "-n", bridge, "link", "add", "br0", "type", "bridge"]);
      command(["ip", "-n", bridge, "link", "set", "br0", "up"]);
      for (let number = 1; number <= count; number += 1) this.#addSpace(number);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  space(number: number): string {
    return `${this.#tag}n${number}`;
  }

  address(number: number): string {
    return `10.77.0.${number}`;
  }

  get numbers(): readonly number[] {
    return [...this.#faults.keys()];
  }

  /** Nothing goes from one to the other any more; the other way is not touched. */
  cut(from: number, to: number): void {
    this.#faultsOf(from).silentTo.add(to);
    this.#apply(from);
  }

  lose(from: number, percent: number): void {
    this.#faultsOf(from).lossPercent = percent;
    this.#apply(from);
  }

  slow(from: number, rateBits: number): void {
    this.#faultsOf(from).rateBits = rateBits;
    this.#apply(from);
  }

  heal(): void {
    for (const [number, faults] of this.#faults) {
      const { silentTo, lossPercent, rateBits } = faults;
      if (silentTo.size + lossPercent + rateBits === 0) continue;
      silentTo.clear();
      faults.lossPercent = 0;
      faults.rateBits = 0;
      this.#apply(number);
    }
  }

  close(): void {
    for (const number of this.#faults.keys()) quietly(["ip", "netns", "del", this.space(number)]);
    quietly(["ip", "netns", "del", this.#bridge]);
    this.#faults.clear();
  }

  get #bridge(): string {
    return `${this.#tag}b`;
  }

  #faultsOf(number: number): Faults {
    const faults = this.#faults.get(number);
    if (faults === undefined) throw new RangeError(`there is no node ${number} in this network`);
    return faults;
  }

  #addSpace(number: number): void {
    const space = this.space(number);
    const bridge = this.#bridge;
    const link = `v${number}`;
    command(["ip", "netns", "add", space]);
    this.#faults.set(number, { silentTo: new Set(), lossPercent: 0, rateBits: 0 });
    command(["ip", "-n", space, "link", "set", "lo", "up"]);
    const pair = ["type", "veth", "peer", "name", "eth0", "netns", space];
    command(["ip", "-n", bridge, "link", "add", link, ...pair]);
    command(["ip", "-n", bridge, "link", "set", link, "master", "br0", "up"]);
    const address = `${this.address(number)}/24`;
    command(["ip", "-n", space, "addr", "add", address, "dev", "eth0"]);
    command(["ip", "-n", space, "link", "set", "eth0", "up"]);
  }

  #apply(number: number): void {
    const { silentTo, lossPercent, rateBits } = this.#faultsOf(number);
    const inside = ["ip", "netns", "exec", this.space(number)];
    const rules = [...silentTo].map((to) => `ip daddr ${this.address(to)} drop`);
    if (lossPercent > 0) rules.push(`numgen random mod 100 < ${lossPercent} drop`);
    const chain = `type filter hook output priority 0\n${rules.join("\n")}`;
    const table = `table ip faults {\nchain out {\n${chain}\n}\n}\n`;
    command([...inside, "nft", "-f", "-"], `flush ruleset\n${rules.length > 0 ? table : ""}`);
    quietly([...inside, "tc", "qdisc", "del", "dev", "eth0", "root"]);
    if (rateBits === 0) return;
    const shape = ["tbf", "rate", `${rateBits}bit`, "burst", "32k", "latency", `${queueMs}ms`];
    command([...inside, "tc", "qdisc", "add", "dev", "eth0", "root", ...shape]);
  }
}
