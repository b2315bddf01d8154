/** What runs in the worker: calls of worker.js in, answers out. */

import { build, load, maps, prune } from "./index.js";

const port = typeof globalThis.process?.versions?.node === "string"
  ? (await import(/* @vite-ignore */ "node:worker_threads")).parentPort
  : globalThis;

let model;

const methods = {
  async load(say, source, options) {
    model = await load(source, { ...options, onProgress: say });
    const { inputs, outputs, build, loadMs } = model;
    return { inputs, outputs, build, loadMs };
  },
  prune: (_, source, recipe) => prune(source, recipe),
  maps: (_, source) => maps(source),
  build: () => build(),
  run: (_, feed) => model.run(feed),
  bench: (_, feed, options) => model.bench(feed, options),
  report: () => model.report(),
  memory: () => model.memory(),
};

async function heard({ id, method, args, progress }) {
  const say = progress ? (progress) => port.postMessage({ id, progress }) : undefined;
  try {
    const value = await methods[method](say, ...args);
    port.postMessage({ id, value }, buffers(value));
  } catch ({ name, message }) {
    port.postMessage({ id, error: { name, message } });
  }
}

/** The memory of outputs, which goes over without a copy. */
function buffers(value) {
  if (ArrayBuffer.isView(value)) return [value.buffer];
  if (value === null || typeof value !== "object") return [];
  return Object.values(value).map((output) => output?.data?.buffer).filter((buffer) => buffer instanceof ArrayBuffer);
}

if (port === globalThis) port.onmessage = ({ data }) => heard(data);
else port.on("message", heard);
