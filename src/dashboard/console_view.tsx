/** A VM's console as a terminal. */
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { useEffect, useRef, useState } from "preact/hooks";
import { withAdoptedStyles } from "./adopted_styles.ts";
import type { VmView } from "./api.ts";
import { ConsoleLink, type LinkState } from "./console_link.ts";
import { size } from "./format.ts";

const scrollbackLines = 5_000;
const fontPixels = 13;

const said: Readonly<Record<LinkState, string>> = {
  connecting: "connecting…",
  open: "connected",
  ended: "the VM has ended",
  refused: "closed",
};

export function ConsoleView({ vm }: { vm: VmView }) {
  const place = useRef<HTMLDivElement>(null);
  const terminal = useRef<Terminal | null>(null);
  const leave = useRef<HTMLButtonElement>(null);
  const [state, setState] = useState<LinkState>("connecting");
  const [why, setWhy] = useState("");
  const [reader, setReader] = useState(false);
  useEffect(() => {
    if (place.current === null) return;
    const made = open(place.current, { onLeave: () => leave.current?.focus() });
    terminal.current = made.terminal;
    const link = new ConsoleLink({
      vm: vm.id,
      onOutput: (bytes) => made.terminal.write(bytes),
      onGap: (bytes) =>
        made.terminal.writeln(`\x1b[2m[${size(bytes)} are not kept any more]\x1b[0m`),
      onState: (next, text) => {
        setState(next);
        setWhy(text);
      },
    });
    const encoder = new TextEncoder();
    made.terminal.onData((text) => link.type(encoder.encode(text)));
    made.terminal.onBinary((text) => link.type(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    return () => {
      link.close();
      made.close();
    };
  }, [vm.id]);
  useEffect(() => {
    if (terminal.current !== null) terminal.current.options.screenReaderMode = reader;
  }, [reader]);
  return (
    <section class="card console" aria-labelledby="console-title">
      <div class="card-head">
        <h2 id="console-title">Console</h2>
        <span class="hint" role="status">
          {why === "" ? said[state] : why}
        </span>
        <span class="hint wide-only">Ctrl-] leaves it</span>
        <button
          ref={leave}
          type="button"
          class="quiet"
          aria-pressed={reader}
          onClick={() => setReader(!reader)}
        >
          Read aloud
        </button>
      </div>
      <div class="console-place">
        <div class="console-inside" ref={place} />
      </div>
    </section>
  );
}

function open(place: HTMLElement, options: { onLeave: () => void }) {
  const terminal = new Terminal({
    cursorBlink: false,
    fontFamily: 'ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", Menlo, monospace',
    fontSize: fontPixels,
    lineHeight: 1.25,
    scrollback: scrollbackLines,
    theme: themeOf(place),
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  withAdoptedStyles(() => terminal.open(place));
  fit.fit();
  // The guest gets Tab and Escape: this key gives the keyboard back to the page.
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type !== "keydown" || !event.ctrlKey || event.key !== "]") return true;
    options.onLeave();
    return false;
  });
  const resized = new ResizeObserver(() => fit.fit());
  resized.observe(place);
  const painted = (): void => {
    terminal.options.theme = themeOf(place);
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", painted);
  window.addEventListener("themechange", painted);
  const close = (): void => {
    resized.disconnect();
    dark.removeEventListener("change", painted);
    window.removeEventListener("themechange", painted);
    terminal.dispose();
  };
  return { terminal, close };
}

/** Colours of the page's own style sheet, as the browser works them out. */
function themeOf(place: HTMLElement) {
  const style = getComputedStyle(place);
  return {
    background: style.backgroundColor,
    foreground: style.color,
    cursor: style.color,
    cursorAccent: style.backgroundColor,
    selectionBackground: style.outlineColor,
  };
}
