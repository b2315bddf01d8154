/** Reads WebAssembly 2.0 with relaxed SIMD as far as tools here want it: sections, numbers in LEB128, where instructions begin. */
export class Reader {
  /** @param {Uint8Array} bytes @param {number} at where to begin */
  constructor(bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  byte() {
    return this.bytes[this.at++];
  }

  /** An unsigned number. */
  number() {
    let [value, factor] = [0, 1];
    for (;;) {
      const byte = this.byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 0x80;
    }
  }

  skip(numbers) {
    for (; numbers > 0; numbers--) while (this.byte() >= 0x80);
  }

  /** Bytes with their length in front. */
  run() {
    const end = this.number() + this.at;
    const run = this.bytes.subarray(this.at, end);
    this.at = end;
    return run;
  }

  /** Sections behind the head of a module: what they are, and their bytes. */
  *sections() {
    this.at = 8;
    while (this.at < this.bytes.length) yield [this.byte(), this.run()];
  }

  /**
   * Instructions of a function, from its locals on: `see` is called with an opcode, with `PREFIX` times 256 and the number behind it of
   * those that have one, and where that begins; then this goes on behind the instruction.
   *
   * @throws {Error} if there are bytes that are no instruction.
   */
  instructions(see) {
    for (let locals = this.number(); locals > 0; locals--) this.skip(2);
    while (this.at < this.bytes.length) {
      const at = this.at;
      const first = this.byte();
      const opcode = first === BULK || first === VECTOR ? first * 256 + this.number() : first;
      see(opcode, at);
      this.#operands(opcode);
    }
    if (this.at !== this.bytes.length) throw new Error("a function ends within an instruction");
  }

  #operands(opcode) {
    if (opcode >= VECTOR * 256) {
      const operation = opcode - VECTOR * 256;
      const ofLane = operation >= 0x54 && operation <= 0x5b;
      if (operation <= 0x0b || operation === 0x5c || operation === 0x5d || ofLane) this.skip(2);
      if (operation === 0x0c || operation === 0x0d) this.at += 16;
      if ((operation >= 0x15 && operation <= 0x22) || ofLane) this.at += 1;
    } else if (opcode >= BULK * 256) this.skip(OF_BULK[opcode - BULK * 256] ?? 0);
    else if (opcode === 0x0e) this.skip(this.number() + 1);
    else if (opcode === 0x1c) this.skip(this.number());
    else if (opcode === 0x43) this.at += 4;
    else if (opcode === 0x44) this.at += 8;
    else if (opcode === 0x11 || (opcode >= 0x28 && opcode <= 0x3e)) this.skip(2);
    else if (ONE_NUMBER.has(opcode) || (opcode >= 0x20 && opcode <= 0x26)) this.skip(1);
    else if (opcode > 0xc4 && opcode !== 0xd1) throw new Error(`unknown instruction 0x${opcode.toString(16)}`);
  }
}

/** First bytes of instructions of memory and tables, and of vectors. */
export const BULK = 0xfc, VECTOR = 0xfd;

/** Numbers behind instructions of memory and tables. */
const OF_BULK = { 8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1 };

/** Blocks, branches, calls, sizes of memory, whole constants, references. */
const ONE_NUMBER = new Set([0x02, 0x03, 0x04, 0x0c, 0x0d, 0x10, 0x3f, 0x40, 0x41, 0x42, 0xd0, 0xd2]);
