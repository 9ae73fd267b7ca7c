/**
 * The default guest: Debian's stock cloud kernel, and an initial RAM file system of Debian's static
 * busybox and the few files of src/guest/. The same inputs give the same bytes.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { capture, progress, script } from "./_command.ts";
import { type CpioEntry, writeCpio } from "./cpio.ts";
import { paths } from "./paths.ts";
import { setUp } from "./setup.ts";

/** The kernel file that set-up fetched. */
export function debianKernel(): string {
  const boot = join(paths.kernel, "boot");
  const name = readdirSync(boot).find((file) => file.startsWith("vmlinuz-"));
  if (name === undefined) throw new Error(`Cannot find a kernel in "${boot}"; remove .cache`);
  return join(boot, name);
}

/** Debian's static busybox that set-up fetched. */
export function debianBusybox(): string {
  return join(paths.busybox, "bin/busybox");
}

const emptyDirectories = ["dev", "proc", "root", "run", "sys", "tmp"];

/** What every busybox guest has: the program, a link for each applet, and mount points. */
export function busyboxEntries(): CpioEntry[] {
  const busybox = debianBusybox();
  const applets = capture([busybox, "--list"]).split("\n");
  return [
    ...["bin", "etc", ...emptyDirectories].map(
      (path): CpioEntry => ({ kind: "directory", path, mode: 0o755 }),
    ),
    { kind: "character_device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { kind: "file", path: "bin/busybox", mode: 0o755, data: readFileSync(busybox) },
    ...applets
      .filter((applet) => applet !== "" && applet !== "busybox")
      .map((applet): CpioEntry => ({ kind: "link", path: `bin/${applet}`, target: "busybox" })),
  ];
}

/** The files below `source` as entries; scripts (those that begin with "#!") are executable. */
export function sourceEntries(source: string, paths: readonly string[]): CpioEntry[] {
  return paths.map((path) => {
    const data = readFileSync(join(source, path));
    return {
      kind: "file",
      path,
      mode: data.toString("latin1", 0, 2) === "#!" ? 0o755 : 0o644,
      data,
    };
  });
}

/** Modules of the guest's kernel, by path below kernel/, each to lie in the guest's lib/modules. */
export function moduleEntries(modules: readonly string[]): CpioEntry[] {
  const root = join(paths.kernel, "lib/modules");
  const release = readdirSync(root)[0];
  if (release === undefined) throw new Error(`Cannot find modules in "${root}"; remove .cache`);
  return [
    ...["lib", "lib/modules"].map((path): CpioEntry => ({ kind: "directory", path, mode: 0o755 })),
    ...modules.map((path): CpioEntry => {
      const data = readFileSync(join(root, release, "kernel", path));
      return { kind: "file", path: `lib/modules/${basename(path)}`, mode: 0o644, data };
    }),
  ];
}

/** What the power button needs: the button, and the way its key reaches programs. */
const guestModules = ["drivers/acpi/button.ko", "drivers/input/evdev.ko"];

const guestFiles = [
  "init",
  "bin/power_button",
  "bin/ticker",
  "etc/acpi/PWRF/00000080",
  "etc/group",
  "etc/hostname",
  "etc/inittab",
  "etc/passwd",
  "etc/profile",
];

function guestLicenses(): string {
  const documents = [
    ...readdirSync(join(paths.kernel, "usr/share/doc")).map(
      (name) => [paths.kernel, name] as const,
    ),
    ...readdirSync(join(paths.busybox, "usr/share/doc")).map(
      (name) => [paths.busybox, name] as const,
    ),
  ];
  const texts = documents.map(([root, name]) => {
    const text = readFileSync(join(root, "usr/share/doc", name, "copyright"), "utf8");
    return `==== Debian package ${name}, unmodified ====\n\n${text.trimEnd()}\n`;
  });
  return (
    "The default guest contains these programs as Debian distributes them. Their source packages\n" +
    '("linux" and "busybox") are in the Debian archive, in the same release as the packages.\n\n' +
    texts.join("\n")
  );
}

/** Writes dist/guest/: vmlinuz, initrd, cmdline, LICENSES. */
export function buildGuest(): void {
  mkdirSync(paths.guest, { recursive: true });
  put("vmlinuz", readFileSync(debianKernel()));
  put(
    "initrd",
    writeCpio([
      ...busyboxEntries(),
      ...moduleEntries(guestModules),
      { kind: "directory", path: "etc/acpi", mode: 0o755 },
      { kind: "directory", path: "etc/acpi/PWRF", mode: 0o755 },
      ...sourceEntries(paths.guestSource, guestFiles),
    ]),
  );
  put("cmdline", readFileSync(join(paths.guestSource, "cmdline")));
  put("LICENSES", Buffer.from(guestLicenses()));
}

/** Renamed into place, and only when it changed: what is running keeps its file. */
function put(name: string, data: Uint8Array): void {
  const file = join(paths.guest, name);
  if (existsSync(file) && statSync(file).size === data.length) {
    if (readFileSync(file).equals(data)) return;
  }
  writeFileSync(`${file}.new`, data);
  renameSync(`${file}.new`, file);
  progress("guest", `wrote ${name}, ${data.length} bytes`);
}

if (import.meta.main) {
  await script(async () => {
    await setUp();
    buildGuest();
  });
}
