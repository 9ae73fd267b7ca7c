/** Says on standard error what a verb is doing once it takes longer than a moment. */

const firstMs = 700;
const everyMs = 200;
const marks = ["-", "\\", "|", "/"] as const;

export interface Progress {
  say(text: string): void;
  end(): void;
}

/** On a terminal one line that changes; elsewhere nothing, so that errors stand alone. */
export function startProgress(): Progress {
  const terminal = process.stderr.isTTY === true;
  const began = performance.now();
  let text = "";
  let shown = false;
  let turn = 0;
  const draw = (): void => {
    if (text === "" || performance.now() - began < firstMs) return;
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    turn += 1;
    shown = true;
    process.stderr.write(`\r\x1b[K${marks[turn % marks.length]} ${text} (${seconds} s)`);
  };
  const timer = terminal ? setInterval(draw, everyMs) : null;
  return {
    say: (next) => {
      text = next;
    },
    end: () => {
      if (timer !== null) clearInterval(timer);
      if (shown) process.stderr.write("\r\x1b[K");
    },
  };
}
