/** ONNX files of a node or two, written for a test. */

const TYPES = {
  float32: 1, uint8: 2, int8: 3, uint16: 4, int16: 5, int32: 6, int64: 7, bool: 9, float16: 10, float64: 11, uint32: 12, uint64: 13,
};

const varint = (value) => {
  const bytes = [];
  let rest = BigInt(value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
};
const number = (field, value) => Buffer.concat([varint(field << 3), varint(value)]);
const message = (field, ...parts) => {
  const body = Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));
  return Buffer.concat([varint((field << 3) | 2), varint(body.length), body]);
};

/** An input or output: dims are numbers, or text for a symbol. */
const value = (field, { name, type = "float32", dims }) => {
  const sizes = dims.map((dim) => message(1, typeof dim === "number" ? number(1, dim) : message(2, dim)));
  return message(field, message(1, name), message(2, message(1, number(1, TYPES[type]), message(2, ...sizes))));
};

const node = ({ op, inputs, outputs, ints = {} }) =>
  message(1, ...inputs.map((name) => message(1, name)), ...outputs.map((name) => message(2, name)), message(4, op),
    ...Object.entries(ints).map(([name, value]) => message(5, message(1, name), number(3, value), number(20, 2))));

const tensor = ({ name, data, dims }) =>
  message(5, ...dims.map((dim) => number(1, dim)), number(2, data instanceof BigInt64Array ? 7 : 1), message(8, name),
    message(9, Buffer.from(data.buffer)));

/** The file of a graph. */
export function onnx({ nodes, inputs, outputs, tensors = [] }) {
  const graph = message(7, ...nodes.map(node), message(2, "test"), ...tensors.map(tensor),
    ...inputs.map((input) => value(11, input)), ...outputs.map((output) => value(12, output)));
  return new Uint8Array(Buffer.concat([number(1, 8), message(8, number(2, 13)), graph]));
}
