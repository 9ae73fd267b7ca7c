/**
 * Runs other programs for the build scripts, with errors that name the command and show the end of
 * what it printed. Knows nothing of what it runs.
 */
import { spawn, spawnSync } from "node:child_process";

/** How much of a failed program's output an error shows. */
const errorTailBytes = 4000;
/** How much of its command line, which may list hundreds of files. */
const commandCharactersMax = 200;

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Bytes for its standard input. */
  readonly input?: string | Uint8Array;
}

/** A program ended with a failure, or could not be started. */
export class CommandError extends Error {
  constructor(command: readonly string[], exitStatus: number | null, output: string) {
    const tail = output.trimEnd().slice(-errorTailBytes);
    const full = command.join(" ");
    const shown =
      full.length > commandCharactersMax ? `${full.slice(0, commandCharactersMax)}…` : full;
    super(`Cannot run "${shown}": ${describeExit(exitStatus)}${tail && `\n${tail}`}`);
    this.name = "CommandError";
  }
}

function describeExit(exitStatus: number | null): string {
  return exitStatus === null ? "it did not run or was killed" : `exit status ${exitStatus}`;
}

function environment(options: CommandOptions): NodeJS.ProcessEnv {
  return { ...process.env, ...options.env };
}

/** Runs to the end and returns the standard output; throws CommandError. */
export function capture(command: readonly string[], options: CommandOptions = {}): string {
  const result = spawnSync(command[0] ?? "", command.slice(1), {
    cwd: options.cwd,
    env: environment(options),
    input: options.input,
    maxBuffer: 256 * 1024 * 1024,
    encoding: "utf8",
  });
  if (result.error !== undefined && result.status === null) {
    throw new CommandError(command, null, result.error.message);
  }
  if (result.status !== 0) {
    throw new CommandError(command, result.status, `${result.stdout}${result.stderr}`);
  }
  return result.stdout;
}

/** Like `capture`, but null where the program is missing or fails. */
export function tryCapture(command: readonly string[], options: CommandOptions = {}) {
  try {
    return capture(command, options);
  } catch (error) {
    if (error instanceof CommandError) return null;
    throw error;
  }
}

/**
 * Runs with its output on this terminal and answers its exit status (128 + n when killed by signal
 * n is folded to 1). Ctrl-C reaches the program through the terminal's process group.
 */
export async function runVisibly(
  command: readonly string[],
  options: CommandOptions = {},
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const child = spawn(command[0] ?? "", command.slice(1), {
    cwd: options.cwd,
    env: environment(options),
    stdio: ["ignore", "inherit", "inherit"],
  });
  child.on("error", (error) => reject(new CommandError(command, null, error.message)));
  child.on("close", (code) => resolve(code ?? 1));
  return promise;
}

/** Like `runVisibly`, and throws CommandError unless the exit status is 0. */
export async function mustRunVisibly(command: readonly string[], options: CommandOptions = {}) {
  const status = await runVisibly(command, options);
  if (status !== 0) throw new CommandError(command, status, "");
}

/** Runs the body of a script: errors become one message and exit status 1, never a stack trace. */
export async function script(body: () => Promise<void> | void): Promise<void> {
  try {
    await body();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

/** One line of progress, on standard error so that results stay alone on standard output. */
export function progress(area: string, text: string): void {
  process.stderr.write(`${area}: ${text}\n`);
}
