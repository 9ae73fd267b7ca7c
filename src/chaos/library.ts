/** The scenarios that come with the binary, and those that users write. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { assetText } from "../assets.ts";
import { cannot, oneLine } from "../user_error.ts";
import { readScenario, type Scenario } from "./scenario.ts";

/** Name -> text, of all that come with the binary. */
export function shippedScenarios(): ReadonlyMap<string, string> {
  const texts = JSON.parse(assetText("chaos/scenarios.json")) as Record<string, string>;
  return new Map(Object.entries(texts));
}

/** A scenario by its name among those shipped, or by its file's path. */
export function findScenario(nameOrPath: string): Scenario {
  const shipped = shippedScenarios();
  const text = shipped.get(nameOrPath);
  if (text !== undefined) return readScenario(nameOrPath, text);
  try {
    return readScenario(basename(nameOrPath, ".chaos"), readFileSync(nameOrPath, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    const remedy = `those that come along are: ${[...shipped.keys()].join(", ")}`;
    const why = oneLine(error).includes("ENOENT")
      ? "there is neither a file nor a scenario of that name"
      : oneLine(error);
    throw cannot("run scenario", nameOrPath, { why, remedy, kind: "not_found" });
  }
}
