/**
 * The link to one peer: a control stream for what is small and urgent, a bulk stream with a credit
 * window for what is large. Both live and die together. Delivery is at most once and in order on
 * each stream; what a dead link still held is lost, and the layer above sends it again.
 */

import type { Connection } from "@libp2p/interface";
import { transportLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import { BulkWindow, CreditReturn } from "./_bulk_window.ts";
import type { FramedStream } from "./_framed_stream.ts";
import { frameType, ProtocolError } from "./frames.ts";

export interface PeerLinkInit {
  readonly id: NodeId;
  readonly connection: Connection;
  readonly control: FramedStream;
  readonly bulk: FramedStream;
  readonly onControl: (type: number, payload: Uint8Array) => void;
  /** `release` is to be called when the payload was worked off and its memory is free. */
  readonly onBulk: (payload: Uint8Array, release: () => void) => void;
  readonly onDown: (fault: string | null) => void;
}

const CREDIT_BYTES = 4;

export class PeerLink {
  readonly id: NodeId;
  readonly connection: Connection;
  readonly #init: PeerLinkInit;
  readonly #window: BulkWindow;
  readonly #credit: CreditReturn;
  #down = false;

  constructor(init: PeerLinkInit) {
    this.id = init.id;
    this.connection = init.connection;
    this.#init = init;
    this.#window = new BulkWindow((payload) => init.bulk.send(frameType.group, payload));
    this.#credit = new CreditReturn((bytes) => {
      const payload = new Uint8Array(CREDIT_BYTES);
      new DataView(payload.buffer).setUint32(0, bytes, true);
      init.control.send(frameType.credit, payload);
    });
    const onClose = (fault: string | null) => this.#end(fault);
    init.control.handlers = { onFrame: (type, payload) => this.#onControl(type, payload), onClose };
    init.bulk.handlers = { onFrame: (type, payload) => this.#onBulk(type, payload), onClose };
  }

  /** False if the link is down or the peer has left too much unread; the frame is dropped then. */
  sendControl(type: number, payload: Uint8Array): boolean {
    const { control } = this.#init;
    if (this.#down || control.unsentBytes > transportLimits.controlQueueBytesMax) return false;
    if (payload.length >= transportLimits.controlFrameBytesMax) return false;
    return control.send(type, payload);
  }

  /** False if the link is down or too much is waiting for credit; the frame is dropped then. */
  sendBulk(payload: Uint8Array): boolean {
    if (this.#down || payload.length >= transportLimits.bulkFrameBytesMax) return false;
    return this.#window.push(payload);
  }

  #onControl(type: number, payload: Uint8Array): void {
    if (type !== frameType.credit) {
      this.#init.onControl(type, payload);
      return;
    }
    if (payload.length !== CREDIT_BYTES) throw new ProtocolError("a malformed credit");
    this.#window.credit(new DataView(payload.buffer, payload.byteOffset).getUint32(0, true));
  }

  #onBulk(type: number, payload: Uint8Array): void {
    if (type !== frameType.group) throw new ProtocolError(`frame type ${type} on the bulk stream`);
    this.#init.onBulk(payload, this.#credit.take(payload.length));
  }

  #end(fault: string | null): void {
    if (this.#down) return;
    this.close();
    this.#init.onDown(fault);
  }

  /** Ends the link without a report. */
  close(): void {
    this.#down = true;
    this.#credit.close();
    this.#init.control.close();
    this.#init.bulk.close();
  }
}
