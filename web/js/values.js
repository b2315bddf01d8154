/** What goes into a model and comes out of it, checked before WebAssembly sees it. */

const MODES = ["auto", "always", "dense", "never"];
const PRECISIONS = ["f32", "half"];

/** Arrays by type. Half precision and truth values are their bits. */
const ARRAYS = {
  float16: Uint16Array,
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

/** The options of `load`, as the crate takes them. */
export function checkOptions(options) {
  const { sparse = "auto", precision = "f32", inputs = {}, onProgress, build, ...rest } = options;
  const unknown = Object.keys(rest);
  if (unknown.length) throw new TypeError(`options: there is no ${unknown.join(", ")}`);
  if (!MODES.includes(sparse)) throw new TypeError(`sparse: ${JSON.stringify(sparse)}, expected ${MODES.join(", ")}`);
  if (!PRECISIONS.includes(precision)) throw new TypeError(`precision: ${JSON.stringify(precision)}, expected ${PRECISIONS.join(", ")}`);
  if (onProgress !== undefined && typeof onProgress !== "function") throw new TypeError("onProgress: no function");
  const shapes = Object.entries(inputs).flatMap(([name, dims]) => {
    if (!Array.isArray(dims)) throw new TypeError(`inputs: ${name}: expected a shape such as [1, 3, 224, 224]`);
    return [name, dims];
  });
  return { sparse, precision, shapes, onProgress, wanted: build };
}

/**
 * The arrays of `feed` in the order of the inputs, and their sizes.
 *
 * @throws {TypeError} for an array of another type; {Error} for names that are missing or unknown, another length.
 */
export function arrays(inputs, feed) {
  if (feed === null || typeof feed !== "object") throw new TypeError("run: expected { name: { data, dims } }");
  const names = () => inputs.map(({ name }) => name).join(", ");
  for (const name of Object.keys(feed)) {
    if (!inputs.some((input) => input.name === name)) {
      throw new Error(`no input is called ${JSON.stringify(name)}; the model has ${names()}`);
    }
  }
  const data = [], sizes = [];
  for (const { name, type, dims } of inputs) {
    if (!Object.hasOwn(feed, name)) throw new Error(`no array for input ${JSON.stringify(name)}`);
    const given = feed[name] ?? {};
    const Wanted = ARRAYS[type];
    if (!Wanted) throw new Error(`input ${JSON.stringify(name)} is of type ${type}, which JavaScript has no array for`);
    const fits = given.data instanceof Wanted || (type === "float16" && isFloat16(given.data));
    if (!fits) {
      const got = given.data?.constructor?.name ?? typeof given.data;
      throw new TypeError(`input ${JSON.stringify(name)}: data is ${got}, expected ${Wanted.name} (${type})`);
    }
    const shape = given.dims ?? dims;
    if (!Array.isArray(shape) || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      throw new TypeError(`input ${JSON.stringify(name)}: dims: expected an array of sizes such as [${dims}]`);
    }
    const array = given.data;
    data.push(isFloat16(array) ? new Uint16Array(array.buffer, array.byteOffset, array.length) : array);
    sizes.push(shape);
  }
  return [data, sizes];
}

function isFloat16(array) {
  return typeof Float16Array === "function" && array instanceof Float16Array;
}

/** What the crate returns, by name. */
export function named(outputs, values) {
  return Object.fromEntries(outputs.map(({ name, type }, at) => {
    return [name, { type, data: values[2 * at], dims: values[2 * at + 1] }];
  }));
}
