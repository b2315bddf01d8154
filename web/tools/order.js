/**
 * Puts functions beside each other that are alike, so that they compress better: gzip looks back 32 KB, and the linker leaves copies of
 * one generic function megabytes apart.
 */

import { Reader } from "../../sparse-kernels/wasm/module.mjs";

const CUSTOM = 0, IMPORTS = 2, FUNCTIONS = 3, EXPORTS = 7, START = 8, ELEMENTS = 9, CODE = 10;
const CALL = 0x10, FUNCTION_REFERENCE = 0xd2;

/**
 * The same module, its functions in order of what they implement, then of size; without their names.
 *
 * @param {Uint8Array} module with a section of names
 * @returns {Uint8Array}
 * @throws {Error} if it has what this does not know.
 */
export function ordered(module) {
  const sections = [...new Reader(module).sections()];
  const find = (kind) => sections.find(([section]) => section === kind)?.[1];
  const imported = importedFunctions(new Reader(find(IMPORTS)));
  const types = each(find(FUNCTIONS), (reader) => reader.number());
  const bodies = each(find(CODE), (reader) => reader.run());
  const names = functionNames(sections);
  const keys = bodies.map((_, at) => key(names.get(imported + at) ?? ""));
  const order = bodies.map((_, at) => at);
  order.sort((a, b) => compare(keys[a], keys[b]) || bodies[a].length - bodies[b].length || a - b);
  const place = new Uint32Array(order.length);
  order.forEach((from, to) => { place[from] = to; });
  const moved = (index) => (index < imported ? index : imported + place[index - imported]);

  const written = sections.flatMap(([section, bytes]) => {
    switch (section) {
      case CUSTOM: return [];
      case FUNCTIONS: return [[section, list(order.map((at) => number(types[at])))]];
      case EXPORTS: return [[section, exports(new Reader(bytes), moved)]];
      case START: return [[section, number(moved(new Reader(bytes).number()))]];
      case ELEMENTS: return [[section, elements(new Reader(bytes), moved)]];
      case CODE: return [[section, list(order.map((at) => sized(body(bodies[at], moved))))]];
      default: return [[section, bytes]];
    }
  });
  return Buffer.concat([module.subarray(0, 8), ...written.flatMap(([section, bytes]) => [Buffer.of(section), sized(bytes)])]);
}

/** What a function implements: of a trait's function, first that, and then for what. */
function key(name) {
  const plain = name.replace(/::h[0-9a-f]{16}$/, "");
  const [, type, trait, method] = /^<(.*) as (.*)>::(.*)$/.exec(plain) ?? [];
  return trait ? `${trait}::${method}` : plain;
}

const compare = (a, b) => (a < b ? -1 : Number(a > b));

function importedFunctions(reader) {
  let functions = 0;
  for (let left = reader.number(); left > 0; left--) {
    reader.run();
    reader.run();
    if (reader.byte() !== 0) throw new Error("something else than a function is imported");
    reader.skip(1);
    functions++;
  }
  return functions;
}

function functionNames(sections) {
  const names = new Map();
  const text = new TextDecoder();
  for (const [section, bytes] of sections) {
    const reader = new Reader(bytes);
    if (section !== CUSTOM || text.decode(reader.run()) !== "name") continue;
    while (reader.at < bytes.length) {
      const [kind, run] = [reader.byte(), new Reader(reader.run())];
      if (kind !== 1) continue;
      for (let left = run.number(); left > 0; left--) names.set(run.number(), text.decode(run.run()));
    }
  }
  if (!names.size) throw new Error("functions have no names to be ordered by");
  return names;
}

function exports(reader, moved) {
  return list(Array.from({ length: reader.number() }, () => {
    const [name, kind, index] = [sized(reader.run()), reader.byte(), reader.number()];
    return Buffer.concat([name, Buffer.of(kind), number(kind === 0 ? moved(index) : index)]);
  }));
}

/** Tables of functions, at constant places. */
function elements(reader, moved) {
  return list(Array.from({ length: reader.number() }, () => {
    const [from, flags] = [reader.at, reader.number()];
    if (flags !== 0 && flags !== 2) throw new Error(`a table of kind ${flags}`);
    if (flags === 2) reader.skip(1);
    if (reader.byte() !== 0x41) throw new Error("a table that does not begin at a constant");
    reader.skip(1);
    reader.at += flags === 2 ? 2 : 1;
    const head = reader.bytes.subarray(from, reader.at);
    return Buffer.concat([head, list(Array.from({ length: reader.number() }, () => number(moved(reader.number()))))]);
  }));
}

/** A function with other numbers for those that it calls or refers to. */
function body(bytes, moved) {
  const parts = [];
  let written = 0;
  const reader = new Reader(bytes);
  reader.instructions((opcode) => {
    if (opcode !== CALL && opcode !== FUNCTION_REFERENCE) return;
    const at = reader.at;
    parts.push(bytes.subarray(written, at), number(moved(reader.number())));
    written = reader.at;
    reader.at = at;
  });
  return Buffer.concat([...parts, bytes.subarray(written)]);
}

function each(bytes, read) {
  const reader = new Reader(bytes);
  return Array.from({ length: reader.number() }, () => read(reader));
}

function number(value) {
  const bytes = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value & 0x7f) | 0x80);
  return Buffer.of(...bytes, value);
}

const list = (parts) => Buffer.concat([number(parts.length), ...parts]);
const sized = (bytes) => Buffer.concat([number(bytes.length), bytes]);
