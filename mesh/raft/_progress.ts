/**
 * What a leader knows about one follower, and how much it may send it: one append at a time while
 * it looks for the place where the logs agree (`probe`), a bounded pipeline once it is known
 * (`replicate`), only a cheap question when the follower needs entries that were cut (`seed`).
 */

import { ByteWindow } from "./_byte_window.ts";
import type { RaftLimits } from "./limits.ts";
import type { FollowerProgress, MemberRole, NodeId } from "./types.ts";

export class Progress {
  readonly id: NodeId;
  role: MemberRole;
  match = 0;
  next: number;
  state: "probe" | "replicate" | "seed" = "probe";
  recentActive = false;
  /** The owner said that it has no connection there; cleared by any answer. */
  isUnreachable = false;
  /** Newest commit index that was sent along with a proof that the follower has it. */
  commitSent = 0;
  /** Ticks since the newest append was sent or answered, while one is unanswered. */
  #quietTicks = 0;
  #isProbeOut = false;
  readonly #inflight = new ByteWindow();

  constructor(id: NodeId, role: MemberRole, next: number) {
    this.id = id;
    this.role = role;
    this.next = next;
  }

  get inflightBytes(): number {
    return this.#inflight.bytes;
  }

  /** Bytes that may be sent now; 0 when the follower has to answer first. */
  room(limits: RaftLimits): number {
    if (this.isUnreachable) return 0;
    if (this.state !== "replicate") return this.#isProbeOut ? 0 : limits.appendBytesMax;
    if (this.#inflight.count >= limits.inflightAppendsMax) return 0;
    return Math.min(limits.appendBytesMax, limits.inflightBytesMax - this.#inflight.bytes);
  }

  get hasInflight(): boolean {
    return this.#inflight.count > 0;
  }

  sentProbe(): void {
    this.#isProbeOut = true;
    this.#quietTicks = 0;
  }

  sentEntries(lastIndex: number, bytes: number): void {
    if (this.#inflight.count === 0) this.#quietTicks = 0;
    this.#inflight.add(lastIndex, bytes);
    this.next = lastIndex + 1;
  }

  /** The follower holds everything up to `index`. True if that was news. */
  acknowledged(index: number): boolean {
    this.#inflight.releaseTo(index);
    this.#quietTicks = 0;
    const isNews = index > this.match;
    if (isNews) this.match = index;
    if (this.state !== "replicate" && index === this.match) {
      this.state = "replicate";
      this.next = this.match + 1;
      this.#isProbeOut = false;
    }
    this.next = Math.max(this.next, this.match + 1);
    return isNews;
  }

  /** Looks for the match again, starting at `next` (never below what is known to match). */
  probeFrom(next: number): void {
    this.#forgetSent();
    this.state = "probe";
    this.next = Math.max(next, this.match + 1);
  }

  /** Nothing that was known of this follower is relied upon any more: it may have restarted. */
  forget(next: number): void {
    this.match = 0;
    this.commitSent = 0;
    this.probeFrom(next);
  }

  needsSeed(cutIndex: number): void {
    this.#forgetSent();
    this.state = "seed";
    this.next = cutIndex + 1;
  }

  /** One tick passed. True if something has to be sent again. */
  tick(limits: RaftLimits): boolean {
    if (this.state === "replicate") {
      if (this.#inflight.count === 0) return false;
      this.#quietTicks += 1;
      if (this.#quietTicks < limits.resendTicks) return false;
      this.probeFrom(this.match + 1);
      return true;
    }
    this.#quietTicks += 1;
    if (this.#quietTicks < limits.probeTicks) return false;
    this.#isProbeOut = false;
    this.#quietTicks = 0;
    return true;
  }

  view(): FollowerProgress {
    const { id, role, match, next, recentActive, state, inflightBytes } = this;
    return { id, role, match, next, recentActive, state, inflightBytes };
  }

  #forgetSent(): void {
    this.#inflight.clear();
    this.#quietTicks = 0;
    this.#isProbeOut = false;
  }
}
