/**
 * Turns what this node knows of the mesh into events: compares one picture with the next. The
 * pictures come from announcements, which cost nothing; while something is unsteady the members are
 * asked themselves, often, for a short time. Reports what it sees and changes nothing.
 */
import type { EventDraft } from "./mesh_event.ts";

export const watcherLimits = {
  /** Between two looks at what others announced. */
  lookMs: 250,
  /** Between two questions to the members while something is unsteady. */
  askMs: 100,
  /** How long members are asked after the last sign of a change. */
  askForMs: 5_000,
  /** Looks for the name of a node that is new. */
  nameLooks: 20,
  /** Asking takes at most this share of the time. */
  askShare: 0.25,
} as const;

/** What is compared of a VM. */
export interface VmPicture {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly primary: string | null;
  readonly term: number;
  /** Member -> state of its copy. */
  readonly members: ReadonlyMap<string, string>;
}

export type MeshPicture = ReadonlyMap<string, VmPicture>;

export interface WatcherParts {
  /** By announcements; a removed VM is missing. */
  readonly look: () => MeshPicture;
  /** By asking all members. */
  readonly ask: () => Promise<MeshPicture>;
  readonly nameOf: (node: string) => string;
  readonly isConnected: (node: string) => boolean;
  /** Has the node told its name? */
  readonly isNamed: (node: string) => boolean;
  readonly emit: (event: EventDraft) => void;
  readonly now: () => number;
  /** Does anybody want to know at once? */
  readonly watched: () => boolean;
}

export class ChangeWatcher {
  readonly #parts: WatcherParts;
  #picture: MeshPicture | null = null;
  #askUntil = 0;
  #asking = false;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(parts: WatcherParts) {
    this.#parts = parts;
    this.#plan(0);
  }

  /** A sign that something changes just now. */
  stir(): void {
    this.#askUntil = this.#parts.now() + watcherLimits.askForMs;
    if (!this.#asking && this.#parts.watched()) this.#plan(0);
  }

  peer(kind: "up" | "down", node: string): void {
    if (kind === "down") this.#peer(kind, node);
    else this.#whenNamed(node, watcherLimits.nameLooks);
    this.stir();
  }

  /** A node tells its name a moment after it is connected. */
  #whenNamed(node: string, looks: number): void {
    const { isConnected, isNamed } = this.#parts;
    if (this.#closed || !isConnected(node)) return;
    if (isNamed(node) || looks === 0) this.#peer("up", node);
    else setTimeout(() => this.#whenNamed(node, looks - 1), watcherLimits.lookMs).unref();
  }

  #peer(kind: "up" | "down", node: string): void {
    const node_name = this.#parts.nameOf(node);
    const text = `node ${node_name} ${kind === "up" ? "is connected" : "is gone"}`;
    this.#parts.emit({ kind: `node.${kind}`, node, node_name, text });
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #plan(ms: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => void this.#turn(), ms).unref();
  }

  async #turn(): Promise<void> {
    const { now, ask, look, watched } = this.#parts;
    const began = now();
    const isBusy = watched() && (began < this.#askUntil || this.#picture === null);
    this.#asking = true;
    try {
      this.#compare(isBusy ? await ask() : look());
    } catch {
      // The next look comes soon.
    } finally {
      this.#asking = false;
    }
    const { askMs, askShare, lookMs } = watcherLimits;
    this.#plan(isBusy ? Math.max(askMs, (now() - began) / askShare) : lookMs);
  }

  #compare(found: MeshPicture): void {
    const before = this.#picture;
    const picture = new Map(found);
    for (const vm of before?.values() ?? []) {
      const gone = !picture.has(vm.id);
      // A VM whose members cannot be asked may well live.
      if (gone && ![...vm.members.keys()].some(this.#parts.isConnected)) {
        picture.set(vm.id, { ...vm, state: "unreachable", primary: null });
      }
    }
    this.#picture = picture;
    if (before === null) return;
    const drafts = changes(before, picture, this.#parts.nameOf);
    if (drafts.length > 0) this.#askUntil = this.#parts.now() + watcherLimits.askForMs;
    for (const draft of drafts) this.#parts.emit(draft);
  }
}

/** What is different, as events. */
export function changes(
  before: MeshPicture,
  after: MeshPicture,
  nameOf: (node: string) => string,
): EventDraft[] {
  const drafts: EventDraft[] = [];
  for (const vm of after.values()) {
    const old = before.get(vm.id);
    if (old === undefined) drafts.push(about(vm, "vm.created", `VM ${vm.name} is there`));
    else drafts.push(...vmChanges(old, vm, nameOf));
  }
  for (const vm of before.values()) {
    if (!after.has(vm.id)) drafts.push(about(vm, "vm.removed", `VM ${vm.name} is gone`));
  }
  return drafts;
}

function vmChanges(old: VmPicture, vm: VmPicture, nameOf: (id: string) => string): EventDraft[] {
  const drafts: EventDraft[] = [];
  // Announcements of several nodes come one after the other: an older one is no news.
  if (vm.term < old.term) return drafts;
  for (const [node, state] of vm.members) {
    const from = old.members.get(node) ?? null;
    if (from === state) continue;
    const node_name = nameOf(node);
    const text = `VM ${vm.name}: the copy on ${node_name} is ${words(state)}`;
    drafts.push({ ...about(vm, "vm.member", text), node, node_name, from, to: state });
  }
  if (vm.primary !== null && vm.primary !== old.primary) {
    const node_name = nameOf(vm.primary);
    const lost = old.primary === null ? null : nameOf(old.primary);
    const text = `VM ${vm.name} runs on ${node_name}${lost === null ? "" : `, before on ${lost}`}`;
    const where = { node: vm.primary, node_name, from: old.primary, to: vm.primary };
    drafts.push({ ...about(vm, "vm.primary", text), ...where });
  }
  if (vm.state !== old.state) {
    const text = `VM ${vm.name} is ${words(vm.state)}`;
    drafts.push({ ...about(vm, "vm.state", text), from: old.state, to: vm.state });
  }
  return drafts;
}

function words(state: string): string {
  return state === "" ? "away" : state.replaceAll("_", " ");
}

function about(vm: VmPicture, kind: EventDraft["kind"], text: string): EventDraft {
  return { kind, vm: vm.name, vm_id: vm.id, term: vm.term, text };
}
