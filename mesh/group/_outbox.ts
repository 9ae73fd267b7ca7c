/**
 * What all groups of a node send in one turn: one control frame and few bulk frames for each peer,
 * however many groups there are. Appends go on the bulk stream in order, everything else on
 * control.
 */

import { transportLimits } from "../limits.ts";
import type { NodeId } from "../raft/types.ts";
import type { GroupTransport } from "../transport/mesh_node.ts";
import { encodeRecords, type GroupRecord, recordBytes } from "./message_codec.ts";

/** Appends of several groups share a frame up to here; a larger message has its own. */
const BULK_FRAME_BYTES = 256 * 1024;
/** Leaves room for the frame's head. */
const CONTROL_FRAME_BYTES = transportLimits.controlFrameBytesMax - 1024;

interface PeerBox {
  readonly control: GroupRecord[];
  readonly bulk: GroupRecord[];
}

export class Outbox {
  readonly #transport: GroupTransport;
  /** An append could not be sent: its group must not count on it. */
  readonly #onDropped: (groupId: string, to: NodeId) => void;
  readonly #boxes = new Map<NodeId, PeerBox>();

  constructor(transport: GroupTransport, onDropped: (groupId: string, to: NodeId) => void) {
    this.#transport = transport;
    this.#onDropped = onDropped;
  }

  add(to: NodeId, record: GroupRecord): void {
    let box = this.#boxes.get(to);
    if (box === undefined) {
      box = { control: [], bulk: [] };
      this.#boxes.set(to, box);
    }
    const isAppend = "message" in record && record.message.kind === "append";
    (isAppend ? box.bulk : box.control).push(record);
  }

  flush(): void {
    if (this.#boxes.size === 0) return;
    const boxes = [...this.#boxes];
    this.#boxes.clear();
    for (const [to, { control, bulk }] of boxes) {
      for (const records of split(control, CONTROL_FRAME_BYTES)) {
        this.#transport.sendControl(to, encodeRecords(records));
      }
      for (const records of split(bulk, BULK_FRAME_BYTES)) {
        if (this.#transport.sendBulk(to, encodeRecords(records))) continue;
        for (const { groupId } of records) this.#onDropped(groupId, to);
      }
    }
  }
}

/** In order, in parts of at most `bytesMax` but at least one record. */
function* split(
  records: readonly GroupRecord[],
  bytesMax: number,
): Generator<readonly GroupRecord[]> {
  let part: GroupRecord[] = [];
  let bytes = 0;
  for (const record of records) {
    const size = recordBytes(record);
    if (part.length > 0 && bytes + size > bytesMax) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(record);
    bytes += size;
  }
  if (part.length > 0) yield part;
}
