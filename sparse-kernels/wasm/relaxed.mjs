/**
 * Minima and maxima of modules with relaxed SIMD, made strict.
 *
 * With relaxed SIMD, LLVM takes `relaxed_min` and `relaxed_max` for every pseudo-minimum and -maximum, be it of an intrinsic or of scalar
 * choices that it puts into vectors. The pseudo ones say what becomes of NaN, the relaxed ones do not: a NaN that meets a clamp may become
 * its bound. Length and meaning are the same otherwise, so that the ones can take the places of the others. Of intrinsics the operands
 * are where they were; those of scalar choices LLVM may have exchanged, and then a NaN still becomes the other one.
 */

import { Reader, VECTOR } from "./module.mjs";

/** Strict instructions for relaxed ones; all have two bytes behind the first. */
const STRICT = new Map([
  [0x10d, 0xea], // f32x4.relaxed_min, f32x4.pmin
  [0x10e, 0xeb], // f32x4.relaxed_max, f32x4.pmax
  [0x10f, 0xf6], // f64x2.relaxed_min, f64x2.pmin
  [0x110, 0xf7], // f64x2.relaxed_max, f64x2.pmax
]);

/**
 * Relaxed instructions that stay: multiply-adds (f32x4 and f64x2, relaxed_madd and relaxed_nmadd), where engines differ in the last bits
 * alone, and i32x4.relaxed_dot_i8x16_i7x16_add, which tract's product of int8 gives second factors of seven bits: all engines agree on these.
 */
const HARMLESS = new Set([0x105, 0x106, 0x107, 0x108, 0x113]);

const FIRST_RELAXED = 0x100;

/**
 * Replaces relaxed minima and maxima by strict ones, in place.
 *
 * @param {Uint8Array} module
 * @returns {number} how many there were
 * @throws {Error} if it has relaxed instructions that this does not know, or bytes that are no instruction.
 */
export function keepNaN(module) {
  let replaced = 0;
  for (const [section, bytes] of new Reader(module).sections()) {
    if (section !== 10) continue;
    const functions = new Reader(bytes);
    for (let left = functions.number(); left > 0; left--) {
      const code = functions.run();
      new Reader(code).instructions((opcode, at) => {
        const operation = opcode - VECTOR * 256;
        if (operation < FIRST_RELAXED || HARMLESS.has(operation)) return;
        const strict = STRICT.get(operation);
        if (strict === undefined) throw new Error(`relaxed instruction 0x${operation.toString(16)}, whose result engines choose`);
        code.set([(strict & 0x7f) | 0x80, strict >> 7], at + 1);
        replaced++;
      });
    }
  }
  return replaced;
}
