/** Two loops of multiply-adds in registers, product and sum apart and fused: modules of one function, assembled here. */

/** Sums enough for the latency of two multiply-adds a cycle, few enough for 16 registers. */
const SUMS = 12;

// the words of the format that the loops are made of
const I32 = 0x7f, F32 = 0x7d, V128 = 0x7b, NOTHING = 0x40;
const LOOP = 0x03, END = 0x0b, BR_IF = 0x0d, GET = 0x20, SET = 0x21, TEE = 0x22, CONST_I32 = 0x41, CONST_F32 = 0x43, SUB_I32 = 0x6b;
const SPLAT = [0xfd, 0x13], LANE = [0xfd, 0x1f], ADD = [0xfd, 0xe4, 0x01], MUL = [0xfd, 0xe6, 0x01], MULTIPLY_ADD = [0xfd, 0x85, 0x02];

const unsigned = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >> 7)]);
const sized = (bytes) => [...unsigned(bytes.length), ...bytes];
const section = (kind, ...entries) => [kind, ...sized([entries.length, ...entries.flat()])];
const float = (value) => [CONST_F32, ...new Uint8Array(Float32Array.of(value).buffer), ...SPLAT];

/** A module whose `run(rounds)` multiplies and adds `SUMS` vectors in every round. */
function assemble(multiplyAdd) {
  const [rounds, a, b, first] = [0, 1, 2, 3];
  const sums = Array.from({ length: SUMS }, (_, at) => first + at);
  const body = [
    1, SUMS + 2, V128,
    ...float(0.999), SET, a, ...float(0.001), SET, b,
    LOOP, NOTHING,
    ...sums.flatMap((sum) => [GET, sum, GET, a, ...multiplyAdd(b), SET, sum]),
    GET, rounds, CONST_I32, 1, SUB_I32, TEE, rounds, BR_IF, 0,
    END,
    GET, first, ...sums.slice(1).flatMap((sum) => [GET, sum, ...ADD]), ...LANE, 0,
    END,
  ];
  return Uint8Array.from([
    0, ..."asm".split("").map((c) => c.charCodeAt(0)), 1, 0, 0, 0,
    ...section(1, [0x60, 1, I32, 1, F32]),
    ...section(3, [0]),
    ...section(7, [...sized([..."run"].map((c) => c.charCodeAt(0))), 0, 0]),
    ...section(10, sized(body)),
  ]);
}

export const separate = assemble((b) => [...MUL, GET, b, ...ADD]);
export const fused = assemble((b) => [GET, b, ...MULTIPLY_ADD]);
