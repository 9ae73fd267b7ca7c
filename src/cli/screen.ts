/**
 * A terminal's screen that is drawn anew as a whole: the other screen buffer, no cursor, lines cut
 * to the width, and everything put back at the end.
 */
import type { ReadStream, WriteStream } from "node:tty";

const enter = "\x1b[?1049h\x1b[?25l";
const leave = "\x1b[?25h\x1b[?1049l";
const home = "\x1b[H";
const clearLine = "\x1b[K";
const clearBelow = "\x1b[J";

export class Screen {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  readonly #onKey: (bytes: Buffer) => void;
  #text = "";
  #closed = false;

  constructor(
    input: ReadStream,
    output: WriteStream,
    options: { readonly onKey: (key: string) => void },
  ) {
    this.#input = input;
    this.#output = output;
    this.#onKey = (bytes) => options.onKey(bytes.toString("latin1"));
    input.setRawMode(true);
    input.on("data", this.#onKey);
    output.on("resize", this.#draw);
    output.write(enter);
    process.once("exit", this.close);
  }

  show(text: string): void {
    this.#text = text;
    this.#draw();
  }

  readonly close = (): void => {
    if (this.#closed) return;
    this.#closed = true;
    process.off("exit", this.close);
    this.#output.off("resize", this.#draw);
    this.#output.write(leave);
    this.#input.off("data", this.#onKey);
    this.#input.setRawMode(false);
    this.#input.pause();
  };

  readonly #draw = (): void => {
    const { columns, rows } = this.#output;
    const lines = this.#text
      .trimEnd()
      .split("\n")
      .slice(0, Math.max(1, rows - 1));
    const cut = lines.map((line) => `${[...line].slice(0, columns).join("")}${clearLine}`);
    this.#output.write(`${home}${cut.join("\r\n")}${clearBelow}`);
  };
}
