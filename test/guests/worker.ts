/**
 * The guest that works: busybox, one program of many kinds of work built from source beside this
 * file, and a first process that does what work= on the kernel's command line names.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CpioEntry, writeCpio } from "../../src/build/cpio.ts";
import { busyboxEntries } from "../../src/build/guest.ts";

export const workerScript = join(import.meta.dirname, "work.sh");

/** Builds the program into `directory` and gives its path; it also runs on the host. */
export function buildWorkloads(directory: string): string {
  const program = join(directory, "workloads");
  const source = join(import.meta.dirname, "workloads.c");
  execFileSync("gcc", [
    "-O2",
    "-static",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-o",
    program,
    source,
    "-lm",
  ]);
  return program;
}

/** Writes the guest's initrd into `directory` and gives its path; `more` goes in beside it. */
export function buildWorker(directory: string, more: readonly CpioEntry[] = []): string {
  const executable = (path: string, source: string): CpioEntry => ({
    kind: "file",
    path,
    mode: 0o755,
    data: readFileSync(source),
  });
  const entries = [
    ...busyboxEntries(),
    executable("init", join(import.meta.dirname, "init")),
    executable("bin/work.sh", workerScript),
    executable("bin/applets", join(import.meta.dirname, "applets")),
    executable("bin/workloads", buildWorkloads(directory)),
    ...more,
  ];
  const file = join(directory, "worker.cpio");
  writeFileSync(file, writeCpio(entries));
  return file;
}
