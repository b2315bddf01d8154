/** numpy's `.npy` files as typed arrays. */

import { readFileSync } from "node:fs";

const ARRAYS = { "<f4": Float32Array, "|u1": Uint8Array, "<i8": BigInt64Array };

/** The `data` and `dims` of a file. */
export function npy(path) {
  const bytes = readFileSync(path);
  const start = bytes[6] === 1 ? 10 + bytes.readUInt16LE(8) : 12 + bytes.readUInt32LE(8);
  const header = bytes.toString("latin1", 10, start);
  const Type = ARRAYS[/'descr': '([^']+)'/.exec(header)?.[1]];
  if (!Type || header.includes("'fortran_order': True")) throw new Error(`${path}: ${header}`);
  const dims = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((size) => size.trim()).map(Number);
  return { data: new Type(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length)), dims };
}
