/** `node-mesh install`: makes a node a service of this machine, with completion and a man page. */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import { isSingleExecutable } from "../assets.ts";
import { homeDirectory } from "../home_directory.ts";
import { commandTree } from "../service/command_tree.ts";
import { completionFor, type Shell, shells } from "../service/completion.ts";
import { manPage } from "../service/man_page.ts";
import { systemdUnit } from "../service/systemd_unit.ts";
import { cannot, oneLine } from "../user_error.ts";
import { version } from "../version.ts";
import { action, UsageError } from "./context.ts";
import { print } from "./output.ts";

interface InstallOptions {
  readonly user?: boolean;
  readonly root: string;
}

interface Places {
  readonly binary: string;
  readonly unit: string;
  readonly manPage: string;
  readonly completions: Readonly<Record<Shell, string>>;
}

export function addInstall(program: Command): void {
  program
    .command("install")
    .argument("[words...]", "options of `node-mesh up` for the service, behind --")
    .option("--user", "for this user alone, as a service of the user's own manager")
    .option("--root <dir>", "write below this directory, for packages", "/")
    .summary("make a node a service of this machine")
    .description(
      "Copies the program to its place and writes a hardened systemd unit, completion for bash, zsh " +
        "and fish, and the man page. Starts nothing; says how to.",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  node-mesh install -- --listen 0.0.0.0:4001 --api :7070\n" +
        "  node-mesh install --user",
    )
    .action(
      action(async (words: readonly string[], options: InstallOptions) => {
        install(program, words, options);
      }),
    );
  program
    .command("completion")
    .argument("<shell>", shells.join(", "))
    .summary("print the completion for a shell")
    .action(
      action(async (shell: string) => {
        const known = shells.find((one) => one === shell);
        if (known === undefined) {
          throw new UsageError(
            `Cannot complete in "${oneLine(shell)}": it is not known; use ${shells.join(", ")}`,
          );
        }
        print(completionFor(known, commandTree(program)));
      }),
    );
  program
    .command("man")
    .summary("print the man page")
    .action(action(async () => print(manPage(commandTree(program), { version }))));
}

function install(program: Command, words: readonly string[], options: InstallOptions): void {
  const user = options.user === true;
  const places = user ? userPlaces() : systemPlaces;
  const put = (path: string): string => join(resolve(options.root), path);
  const tree = commandTree(program);
  const unit = systemdUnit({ binary: places.binary, words, user, kvmGroup: hasKvmGroup() });
  copyProgram(put(places.binary));
  write(put(places.unit), unit);
  write(put(places.manPage), manPage(tree, { version }));
  for (const shell of shells) write(put(places.completions[shell]), completionFor(shell, tree));
  const manager = user ? "systemctl --user" : "systemctl";
  print(
    `start it with: ${manager} daemon-reload && ${manager} enable --now node-mesh\n` +
      (user ? "" : "then see: node-mesh status --data /var/lib/node-mesh\n"),
  );
}

const systemPlaces: Places = {
  binary: "/usr/local/bin/node-mesh",
  unit: "/etc/systemd/system/node-mesh.service",
  manPage: "/usr/local/share/man/man1/node-mesh.1",
  completions: {
    bash: "/usr/local/share/bash-completion/completions/node-mesh",
    zsh: "/usr/local/share/zsh/site-functions/_node-mesh",
    fish: "/usr/local/share/fish/vendor_completions.d/node-mesh.fish",
  },
};

function userPlaces(): Places {
  const home = homeDirectory();
  if (home === "") {
    const why = "this user has no home directory";
    throw cannot("install for", "--user", { why, remedy: "install without --user, as root" });
  }
  const share = join(home, ".local/share");
  return {
    binary: join(home, ".local/bin/node-mesh"),
    unit: join(home, ".config/systemd/user/node-mesh.service"),
    manPage: join(share, "man/man1/node-mesh.1"),
    completions: {
      bash: join(share, "bash-completion/completions/node-mesh"),
      zsh: join(share, "zsh/site-functions/_node-mesh"),
      fish: join(home, ".config/fish/completions/node-mesh.fish"),
    },
  };
}

/** Beside and renamed when whole: a node that runs keeps its own file. */
function copyProgram(path: string): void {
  if (!isSingleExecutable()) {
    const why = "this is a checkout";
    throw cannot("install", path, {
      why,
      remedy: "run: npm run build, then dist/node-mesh install",
    });
  }
  if (path === process.execPath) return;
  attempt(path, () => {
    copyFileSync(process.execPath, `${path}.new`);
    chmodSync(`${path}.new`, 0o755);
    renameSync(`${path}.new`, path);
  });
}

function write(path: string, text: string): void {
  attempt(path, () => writeFileSync(path, text, { mode: 0o644 }));
}

function attempt(path: string, work: () => void): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    work();
    print(`wrote ${path}\n`);
  } catch (error) {
    const remedy = "run it as root, or with --user";
    throw cannot("write", path, { why: oneLine(error), remedy });
  }
}

function hasKvmGroup(): boolean {
  try {
    return /^kvm:/m.test(readFileSync("/etc/group", "utf8"));
  } catch {
    return false;
  }
}
