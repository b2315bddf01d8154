/** Models in this thread: a run keeps it busy. For pages there is `tract-sparse/worker`. */

import { instantiate, build } from "./instance.js";
import { bytesOf } from "./source.js";
import { arrays, checkOptions, named } from "./values.js";

export { build };

/** Loads a model. See index.d.ts, which documents what is public. */
export async function load(source, options = {}) {
  const { sparse, precision, shapes, onProgress, wanted } = checkOptions(options);
  const say = (phase, loaded, total) => onProgress?.({ phase, loaded, total });
  const [bytes, instance] = await Promise.all([
    bytesOf(source, (loaded, total) => say("model", loaded, total)),
    instantiate(wanted, (loaded, total) => say("runtime", loaded, total)),
  ]);
  say("prepare", 0, 1);
  const started = performance.now();
  const session = instance.call(({ Session }) => new Session(bytes, sparse, precision, shapes));
  const described = JSON.parse(instance.call(() => session.describe()));
  say("prepare", 1, 1);
  return new Model(instance, session, described, performance.now() - started);
}

/** Makes zeros in the weights of an ONNX file. */
export async function prune(source, recipe) {
  if (typeof recipe !== "string") throw new TypeError("recipe: expected text, such as 'ratio = 0.5'");
  const [bytes, instance] = await Promise.all([bytesOf(source), instantiate()]);
  try {
    return instance.call((module) => module.prune(bytes, recipe));
  } finally {
    instance.free();
  }
}

/** Where the weights of a model are not zero. */
export async function maps(source) {
  const [bytes, instance] = await Promise.all([bytesOf(source), instantiate()]);
  try {
    const layers = instance.call((module) => module.maps(bytes));
    return layers.map(([name, rows, columns, data]) => ({ name, rows, columns, data }));
  } finally {
    instance.free();
  }
}

class Model {
  #instance;
  #session;
  #described;

  constructor(instance, session, described, loadMs) {
    this.#instance = instance;
    this.#session = session;
    this.#described = described;
    this.inputs = described.inputs;
    this.outputs = described.outputs;
    this.build = instance.build;
    this.loadMs = loadMs;
  }

  async run(feed) {
    return this.#once(arrays(this.inputs, feed));
  }

  async bench(feed, { runs = 10 } = {}) {
    if (!Number.isSafeInteger(runs) || runs < 1) throw new RangeError(`runs: ${runs} is no number of runs`);
    const given = arrays(this.inputs, feed);
    const times = new Float64Array(runs);
    for (let run = 0; run < runs; run++) {
      const started = performance.now();
      this.#once(given);
      times[run] = performance.now() - started;
    }
    return times;
  }

  async report() {
    this.#alive();
    return structuredClone(this.#described.report);
  }

  async memory() {
    this.#alive();
    return this.#instance.bytes();
  }

  free() {
    this.#instance.free();
    this.#session = undefined;
  }

  #once([data, dims]) {
    this.#alive();
    return named(this.outputs, this.#instance.call(() => this.#session.run(data, dims)));
  }

  #alive() {
    if (!this.#session) throw new Error("the model was freed");
  }
}
