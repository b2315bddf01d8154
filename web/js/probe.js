/**
 * Two loops of multiply-adds like those of our kernels, product and sum apart and fused: modules of one function, assembled here. Every
 * round takes two vectors and four weights from memory for eight sums: what loads leave of a machine's width shows.
 */

const VECTORS = 2, WEIGHTS = 4, SUMS = VECTORS * WEIGHTS;

// the words of the format that the loops are made of
const I32 = 0x7f, F32 = 0x7d, V128 = 0x7b, NOTHING = 0x40;
const LOOP = 0x03, END = 0x0b, BR_IF = 0x0d, GET = 0x20, SET = 0x21, TEE = 0x22, CONST_I32 = 0x41, SUB_I32 = 0x6b, AND_I32 = 0x71;
const LOAD = [0xfd, 0x00, 0], LOAD_SPLAT = [0xfd, 0x09, 0], LANE = [0xfd, 0x1f], ADD = [0xfd, 0xe4, 0x01], MUL = [0xfd, 0xe6, 0x01];
const MULTIPLY_ADD = [0xfd, 0x85, 0x02];

const unsigned = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >> 7)]);
const sized = (bytes) => [...unsigned(bytes.length), ...bytes];
const section = (kind, ...entries) => [kind, ...sized([entries.length, ...entries.flat()])];

/** A module whose `run(rounds)` does that; memory is zero, and where it is read depends on the round. */
function assemble(multiplyAdd) {
  const [rounds, from, first] = [0, 1, 2];
  const [vectors, weight] = [[0, 1].map((at) => first + SUMS + at), first + SUMS + VECTORS];
  const loaded = (load, offset, local) => [GET, from, ...load, ...unsigned(offset), SET, local];
  const row = (at) => [
    ...loaded(LOAD_SPLAT, 64 + 4 * at, weight),
    ...vectors.flatMap((vector, n) => {
      const sum = first + at * VECTORS + n;
      return [GET, vector, GET, weight, ...multiplyAdd(sum), SET, sum];
    }),
  ];
  const body = [
    2, 1, I32, SUMS + VECTORS + 1, V128,
    LOOP, NOTHING,
    GET, rounds, CONST_I32, 0xf0, 0x03, AND_I32, SET, from,
    ...vectors.flatMap((vector, n) => loaded(LOAD, 16 * n, vector)),
    ...Array.from({ length: WEIGHTS }, (_, at) => row(at)).flat(),
    GET, rounds, CONST_I32, 1, SUB_I32, TEE, rounds, BR_IF, 0,
    END,
    GET, first, ...Array.from({ length: SUMS - 1 }, (_, at) => [GET, first + 1 + at, ...ADD]).flat(), ...LANE, 0,
    END,
  ];
  return Uint8Array.from([
    0, ..."asm".split("").map((c) => c.charCodeAt(0)), 1, 0, 0, 0,
    ...section(1, [0x60, 1, I32, 1, F32]),
    ...section(3, [0]),
    ...section(5, [0, 1]),
    ...section(7, [...sized([..."run"].map((c) => c.charCodeAt(0))), 0, 0]),
    ...section(10, sized(body)),
  ]);
}

export const separate = assemble((sum) => [...MUL, GET, sum, ...ADD]);
export const fused = assemble((sum) => [GET, sum, ...MULTIPLY_ADD]);
