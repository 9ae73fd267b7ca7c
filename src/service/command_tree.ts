/** The program's verbs and options as plain data, read from the program itself. */
import type { Command } from "commander";

export interface OptionFacts {
  readonly short: string | null;
  readonly long: string;
  readonly flags: string;
  readonly text: string;
  readonly choices: readonly string[];
  readonly takesValue: boolean;
}

export interface CommandFacts {
  /** Without the program's own name: `["vm", "run"]`. */
  readonly path: readonly string[];
  readonly usage: string;
  readonly summary: string;
  readonly description: string;
  readonly options: readonly OptionFacts[];
  readonly children: readonly CommandFacts[];
}

export function commandTree(command: Command, path: readonly string[] = []): CommandFacts {
  const children = command.commands.map((child) => commandTree(child, [...path, child.name()]));
  return {
    path,
    usage: [command.name(), command.usage()].join(" ").trim(),
    summary: command.summary(),
    description: command.description(),
    options: command.options
      .filter((option) => !option.hidden)
      .map((option) => ({
        short: option.short ?? null,
        long: option.long ?? option.short ?? "",
        flags: option.flags,
        text: option.description,
        choices: option.argChoices ?? [],
        takesValue: option.required || option.optional,
      })),
    children,
  };
}

/** A command and all below it, itself first. */
export function allOf(command: CommandFacts): CommandFacts[] {
  return [command, ...command.children.flatMap(allOf)];
}
