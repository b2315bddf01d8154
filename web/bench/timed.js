/** Engines in turn on one network, in whatever runs this. */

import { load } from "../js/index.js";

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const values = (length) => Float32Array.from({ length }, (_, at) => ((at * 7919) % 255) / 255);
const size = (dims) => dims.reduce((product, dim) => product * dim, 1);

/** A model of ours as a function that runs it. */
async function ours(file, sparse, wanted) {
  const model = await load(file, { sparse, build: wanted });
  const feed = Object.fromEntries(model.inputs.map(({ name, dims }) => [name, { data: values(size(dims)), dims }]));
  return { run: () => model.run(feed), free: () => model.free(), build: model.build };
}

/** Median milliseconds of each engine, and the median of its time over ours in the same round. */
export async function timed({ file, dense, sparse, build: wanted, rounds, others = {} }) {
  const engines = { ours: await ours(file, sparse, wanted), stock: await ours(file, "never", wanted) };
  if (dense) engines.dense = await ours(dense, "dense", wanted);
  for (const [name, start] of Object.entries(others)) engines[name] = await start();
  const times = Object.fromEntries(Object.keys(engines).map((name) => [name, []]));
  for (let round = -5; round < rounds; round++) {
    for (const [name, { run }] of Object.entries(engines)) {
      const started = performance.now();
      await run();
      if (round >= 0) times[name].push(performance.now() - started);
    }
  }
  const { build } = engines.ours;
  for (const { free } of Object.values(engines)) free();
  const over = (name) => median(times[name].map((ms, at) => ms / times.ours[at]));
  const names = Object.keys(times);
  return {
    build,
    ms: Object.fromEntries(names.map((name) => [name, median(times[name])])),
    ratios: Object.fromEntries(names.filter((name) => name !== "ours").map((name) => [name, over(name)])),
  };
}

export { size, values };
