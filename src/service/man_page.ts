/** The man page node-mesh(1), made from the command tree. */
import { allOf, type CommandFacts, type OptionFacts } from "./command_tree.ts";

export function manPage(tree: CommandFacts, options: { readonly version: string }): string {
  const verbs = allOf(tree).filter((command) => command.path.length > 0);
  return [
    `.TH NODE-MESH 1 "" "node-mesh ${options.version}" "User Commands"`,
    ".SH NAME",
    "node\\-mesh \\- virtual machines that survive the failure of any machine",
    ".SH SYNOPSIS",
    ".B node\\-mesh",
    ".I verb",
    "[options]",
    ".SH DESCRIPTION",
    text(tree.description),
    "A mesh is a number of machines that each run",
    '.BR "node\\-mesh up" ;',
    "any of them answers for any VM.",
    ".SH VERBS",
    ...verbs.flatMap(verb),
    ".SH ENVIRONMENT",
    ".TP",
    ".B NODE_MESH_DATA",
    "The data directory of the node that a command means, as by \\-\\-data.",
    ".TP",
    ".B NODE_MESH_LOG",
    "The level of node.log, where \\-\\-log\\-level is not given.",
    ".SH EXIT STATUS",
    "0 when it was done, 1 when it failed, 2 when the command was wrong.",
    "",
  ].join("\n");
}

function verb(command: CommandFacts): string[] {
  // A verb that only groups others has nothing of its own to say.
  if (command.children.length > 0 && command.options.length === 0) return [];
  const usage = [...command.path.slice(0, -1), command.usage].join(" ");
  return [
    `.SS "${escaped(usage).replaceAll('"', "'")}"`,
    text(command.description === "" ? `${command.summary}.` : command.description),
    ...command.options.flatMap(option),
  ];
}

function option({ flags, text: says, choices }: OptionFacts): string[] {
  const all = choices.length === 0 ? "" : ` (${choices.join(", ")})`;
  return [".TP", `.B ${escaped(flags)}`, text(`${says}${all}`)];
}

/** A line that begins with a dot or a quote would be taken for a request. */
function text(words: string): string {
  return escaped(words).replace(/^([.'])/gm, "\\&$1");
}

function escaped(words: string): string {
  return words.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("`", "");
}
