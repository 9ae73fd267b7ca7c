/**
 * Completion of verbs and options for bash, zsh and fish, made from the command tree: a verb that
 * is added is completed without anybody thinking of it.
 */
import { allOf, type CommandFacts } from "./command_tree.ts";

export const shells = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof shells)[number];

export function completionFor(shell: Shell, tree: CommandFacts): string {
  if (shell === "fish") return fish(tree);
  const zsh = "#compdef node-mesh\nautoload -U +X bashcompinit && bashcompinit\n";
  return shell === "zsh" ? zsh + bash(tree) : bash(tree);
}

/** Words that may follow each verb; a word that is no option and no verb is left to file names. */
function bash(tree: CommandFacts): string {
  const cases = allOf(tree).map((command) => {
    const words = [
      ...command.children.map(({ path }) => path.at(-1) ?? ""),
      ...command.options.map(({ long }) => long),
      "--help",
    ];
    return `    "${command.path.join(" ")}") words="${words.join(" ")}" ;;`;
  });
  const choices = allOf(tree)
    .flatMap(({ options }) => options)
    .filter((option) => option.choices.length > 0)
    .map(({ long, choices: all }) => `    ${long}) words="${all.join(" ")}" ;;`);
  return `# bash completion for node-mesh
_node_mesh() {
  local current="\${COMP_WORDS[COMP_CWORD]}" verb="" words="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case " ${verbsOf(tree).join(" | ")} " in
      *" | \${verb:+$verb }$word | "*) verb="\${verb:+$verb }$word" ;;
    esac
  done
  case "$verb" in
${cases.join("\n")}
  esac
  case "\${COMP_WORDS[COMP_CWORD-1]}" in
${[...new Set(choices)].join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _node_mesh node-mesh
`;
}

/** Between bars at both ends, so that a whole verb is found and no part of one. */
function verbsOf(tree: CommandFacts): string[] {
  const verbs = allOf(tree).map(({ path }) => path.join(" "));
  return ["", ...verbs.filter((verb) => verb !== ""), ""];
}

function fish(tree: CommandFacts): string {
  const lines = allOf(tree).flatMap((command) => {
    const condition = conditionOf(command, tree);
    const verbs = command.children.map(
      ({ path, summary }) =>
        `complete -c node-mesh -f -n '${condition}' -a ${path.at(-1)} ${d(summary)}`,
    );
    const options = command.options.map((option) => {
      const short = option.short === null ? "" : ` -s ${option.short.slice(1)}`;
      const value = option.takesValue ? " -r" : "";
      const all = option.choices.length > 0 ? ` -a '${option.choices.join(" ")}'` : "";
      const long = `-l ${option.long.slice(2)}`;
      return `complete -c node-mesh -n '${condition}'${short} ${long}${value}${all} ${d(option.text)}`;
    });
    return [...verbs, ...options];
  });
  return `# fish completion for node-mesh\n${lines.join("\n")}\n`;
}

function conditionOf(command: CommandFacts, tree: CommandFacts): string {
  const seen = command.path.map((word) => `__fish_seen_subcommand_from ${word}`);
  if (command.path.length === 0) return "__fish_use_subcommand";
  const below = command.children.map(({ path }) => path.at(-1) ?? "");
  const not =
    below.length === 0 || command === tree
      ? []
      : [`not __fish_seen_subcommand_from ${below.join(" ")}`];
  return [...seen, ...not].join("; and ");
}

function d(text: string): string {
  return `-d '${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
