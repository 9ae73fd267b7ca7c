/** Who imports or includes whom, by reading import and include lines. */
import { dirname, join, normalize } from "node:path";
import { textOf } from "./_tree.ts";

export interface Edge {
  readonly from: string;
  /** A path in the checkout, or the name of a package. */
  readonly to: string;
  /** Types alone: gone when the program runs. */
  readonly typeOnly: boolean;
}

const importPattern =
  /^\s*(?:import|export)\s+(type\s+)?(?:[^"';]*?\sfrom\s+)?"([^"]+)"|\bimport\("([^"]+)"\)/gm;

/** Imports of one TypeScript file. */
export function importsOf(file: string): Edge[] {
  const edges: Edge[] = [];
  for (const match of textOf(file).matchAll(importPattern)) {
    const target = match[2] ?? match[3] ?? "";
    const to = target.startsWith(".") ? normalize(join(dirname(file), target)) : target;
    edges.push({ from: file, to, typeOnly: match[1] !== undefined });
  }
  return edges;
}

/** Includes of one C++ file that name a file of native/, seen from the checkout. */
export function includesOf(file: string): Edge[] {
  return [...textOf(file).matchAll(/^\s*#include\s+"([^"]+)"/gm)].map((match) => ({
    from: file,
    to: `native/${match[1]}`,
    typeOnly: false,
  }));
}

/** One cycle along edges among `files`, as a list that ends where it began; null if none. */
export function findCycle(files: readonly string[], edgesOf: (file: string) => Edge[]) {
  const state = new Map<string, "open" | "done">();
  const path: string[] = [];
  const known = new Set(files);

  function visit(file: string): string[] | null {
    if (state.get(file) === "done" || !known.has(file)) return null;
    if (state.get(file) === "open") return [...path.slice(path.indexOf(file)), file];
    state.set(file, "open");
    path.push(file);
    for (const edge of edgesOf(file)) {
      if (edge.typeOnly) continue;
      const cycle = visit(edge.to);
      if (cycle !== null) return cycle;
    }
    path.pop();
    state.set(file, "done");
    return null;
  }

  for (const file of files) {
    const cycle = visit(file);
    if (cycle !== null) return cycle;
  }
  return null;
}
