/**
 * The browser's end of a VM's console: each byte of output once, in order, and each key exactly
 * once, however often the connection is lost. Knows nothing of how it is shown.
 */
const offsetBytes = 8;
/** What the node takes in one piece. */
const pieceBytesMax = 2048;
/** Pieces that are sent and not yet acknowledged. */
const flyingMax = 32;
const retryFirstMs = 150;
const retryMaxMs = 4_000;
const closedByPolicy = 1008;

export type LinkState = "connecting" | "open" | "ended" | "refused";

export interface LinkOptions {
  readonly vm: string;
  readonly onOutput: (bytes: Uint8Array) => void;
  /** Older output is not kept any more by the copies. */
  readonly onGap: (bytes: number) => void;
  readonly onState: (state: LinkState, why: string) => void;
}

interface Piece {
  readonly seq: number;
  readonly data: string;
}

type Line =
  | { readonly kind: "ack"; readonly seq: number }
  | { readonly kind: "ended" }
  | { readonly kind: "problem"; readonly seq: number | null; readonly problem: { detail: string } };

export class ConsoleLink {
  readonly #options: LinkOptions;
  /** Tells this console from all others that type into the VM. */
  readonly #source = crypto.getRandomValues(new Uint32Array(1))[0] ?? 1;
  #socket: WebSocket | null = null;
  #next = 0;
  #seq = 0;
  #flying: Piece[] = [];
  #waiting: Piece[] = [];
  #retryMs = retryFirstMs;
  #timer: number | undefined;
  #closed = false;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#connect();
  }

  type(bytes: Uint8Array): void {
    for (let start = 0; start < bytes.length; start += pieceBytesMax) {
      this.#seq += 1;
      const piece = bytes.subarray(start, start + pieceBytesMax);
      this.#waiting.push({ seq: this.#seq, data: base64(piece) });
    }
    this.#send();
  }

  close(): void {
    this.#closed = true;
    window.clearTimeout(this.#timer);
    this.#socket?.close();
  }

  #connect(): void {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const path = `/v1/vms/${encodeURIComponent(this.#options.vm)}/console/socket`;
    const socket = new WebSocket(`${scheme}://${location.host}${path}?offset=${this.#next}`);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    this.#options.onState("connecting", "");
    socket.onopen = () => {
      this.#retryMs = retryFirstMs;
      this.#options.onState("open", "");
      this.#again();
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#line(JSON.parse(data) as Line);
      else this.#output(new Uint8Array(data as ArrayBuffer));
    };
    socket.onclose = ({ code }) => {
      this.#socket = null;
      if (this.#closed) return;
      if (code === closedByPolicy) {
        this.#closed = true;
        this.#options.onState("refused", "the node refused what was typed");
        return;
      }
      this.#options.onState("connecting", "");
      this.#timer = window.setTimeout(() => this.#connect(), this.#retryMs);
      this.#retryMs = Math.min(this.#retryMs * 2, retryMaxMs);
    };
  }

  #output(message: Uint8Array): void {
    const view = new DataView(message.buffer, message.byteOffset, offsetBytes);
    const offset = Number(view.getBigUint64(0));
    const bytes = message.subarray(offsetBytes);
    if (offset > this.#next) {
      this.#options.onGap(offset - this.#next);
      this.#next = offset;
    }
    const fresh = bytes.subarray(this.#next - offset);
    this.#next += fresh.length;
    if (fresh.length > 0) this.#options.onOutput(fresh);
  }

  #line(line: Line): void {
    if (line.kind === "ack") {
      this.#flying = this.#flying.filter((piece) => piece.seq > line.seq);
      this.#send();
    } else if (line.kind === "ended") {
      this.#closed = true;
      this.#options.onState("ended", "");
    } else if (line.seq !== null) {
      // The node takes nothing behind a piece that failed until it gets that piece again.
      this.#timer = window.setTimeout(() => this.#again(), this.#retryMs);
    } else {
      this.#options.onState("refused", line.problem.detail);
    }
  }

  #again(): void {
    this.#waiting = [...this.#flying, ...this.#waiting];
    this.#flying = [];
    this.#send();
  }

  #send(): void {
    const socket = this.#socket;
    if (socket === null || socket.readyState !== WebSocket.OPEN) return;
    while (this.#flying.length < flyingMax) {
      const piece = this.#waiting.shift();
      if (piece === undefined) return;
      this.#flying.push(piece);
      socket.send(JSON.stringify({ kind: "input", source: this.#source, ...piece }));
    }
  }
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
