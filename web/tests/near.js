import assert from "node:assert/strict";

/**
 * What two ways of computing a network in f32 may differ by, relative to the largest value of the output. Sums of some thousand products in
 * another order differ by a few units in the last place (6e-8), which grow through some fifty layers; the reference runtimes
 * differ by up to 2.4e-5. A lost weight shows at 1e-2 and more.
 */
export const TOLERANCE = 1e-4;

/** Asserts that two arrays are the same but for rounding. */
export function near(got, expected, what) {
  assert.equal(got.length, expected.length, `${what}: length`);
  let [most, off] = [1e-2, 0];
  expected.forEach((value, at) => {
    most = Math.max(most, Math.abs(value));
    const difference = Math.abs(value - got[at]);
    off = Number.isNaN(difference) ? Infinity : Math.max(off, difference);
  });
  assert.ok(off <= TOLERANCE * most, `${what}: off by ${off}, of values up to ${most}`);
}

/** The position of the largest value. */
export const largest = (values) => values.reduce((best, value, at) => (value > values[best] ? at : best), 0);
