/**
 * CBOR with bounds: plain maps, arrays, numbers, text and bytes. What a peer sent is decoded here
 * and then checked against a schema; nothing else of the mesh looks at undecoded bytes.
 */

import type { Static, TSchema } from "@sinclair/typebox";
import { type TypeCheck, TypeCompiler } from "@sinclair/typebox/compiler";
import { Decoder, Encoder, setSizeLimits } from "cbor-x";

/** Larger claims in a few bytes would make the decoder allocate before anything is checked. */
const CONTAINER_ITEMS_MAX = 100_000;

const encoder = new Encoder({ useRecords: false, tagUint8Array: false, mapsAsObjects: true });
const decoder = new Decoder({ useRecords: false, mapsAsObjects: true });
let limitsAreSet = false;

export function encodeCbor(value: unknown): Uint8Array {
  // A copy: the encoder hands out parts of a shared buffer.
  return Uint8Array.from(encoder.encode(value));
}

/** Throws if the bytes are not exactly one CBOR item. */
export function decodeCbor(bytes: Uint8Array): unknown {
  if (!limitsAreSet) {
    limitsAreSet = true;
    setSizeLimits({
      maxArraySize: CONTAINER_ITEMS_MAX,
      maxMapSize: CONTAINER_ITEMS_MAX,
      maxObjectSize: CONTAINER_ITEMS_MAX,
    });
  }
  return decoder.decode(bytes);
}

/** What a peer sent does not follow the schema. */
export class SchemaError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "SchemaError";
  }
}

/** A schema made ready for checking; compiled at the first use. */
export class Codec<Schema extends TSchema> {
  readonly #schema: Schema;
  readonly #what: string;
  #check: TypeCheck<Schema> | null = null;

  constructor(what: string, schema: Schema) {
    this.#what = what;
    this.#schema = schema;
  }

  /** The value as the schema's type; throws SchemaError naming the first place that differs. */
  check(value: unknown): Static<Schema> {
    this.#check ??= TypeCompiler.Compile(this.#schema);
    if (this.#check.Check(value)) return value;
    const first = this.#check.Errors(value).First();
    const where = first?.path ? ` at ${first.path.slice(0, 100)}` : "";
    throw new SchemaError(`${this.#what} is malformed${where}: ${first?.message ?? "wrong type"}`);
  }

  decode(bytes: Uint8Array): Static<Schema> {
    let value: unknown;
    try {
      value = decodeCbor(bytes);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new SchemaError(`${this.#what} is no valid CBOR: ${why.slice(0, 100)}`);
    }
    return this.check(value);
  }

  encode(value: Static<Schema>): Uint8Array {
    return encodeCbor(value);
  }
}
