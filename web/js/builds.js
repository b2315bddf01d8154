/** The builds that come with the package, and which of them is fastest here. */

import * as probes from "./probe.js";
import { read } from "./source.js";

const builds = {
  simd: { name: "simd", wasm: new URL("../dist/simd.wasm", import.meta.url), glue: () => import("../dist/simd.js") },
  relaxed: {
    name: "relaxed", wasm: new URL("../dist/relaxed.wasm", import.meta.url), glue: () => import("../dist/relaxed.js"),
  },
};

/** How many times faster fused multiply-adds have to be. */
const GAIN = 1.02;

/** How often each is timed, and for how long: some ten times the tenth of a millisecond that clocks of pages tell apart. */
const TURNS = 8, ROUNDS = 300_000;

let picked;

/**
 * The build of that name; of "fastest", the one that is.
 *
 * @throws {Error} if the engine lacks SIMD, or there is no build of that name.
 */
export function pick(name = "simd") {
  if (name !== "fastest" && !Object.hasOwn(builds, name)) {
    throw new TypeError(`build: ${JSON.stringify(name)}, expected "simd", "relaxed" or "fastest"`);
  }
  if (typeof WebAssembly !== "object") throw new Error("tract-sparse needs WebAssembly, which this browser lacks");
  if (!WebAssembly.validate(probes.separate)) {
    throw new Error("tract-sparse needs WebAssembly SIMD: Chrome 91, Firefox 89, Safari 16.4, Node 16.4 or newer");
  }
  return name === "fastest" ? (picked ??= fastest()) : builds[name];
}

async function fastest() {
  const separate = await probe(probes.separate);
  const fused = await probe(probes.fused);
  if (!fused) return builds.simd;
  const times = [separate, fused].map(() => Infinity);
  for (let turn = 0; turn < TURNS; turn++) {
    [separate, fused].forEach((run, at) => { times[at] = Math.min(times[at], milliseconds(run)); });
  }
  return times[0] >= times[1] * GAIN ? builds.relaxed : builds.simd;
}

/** A loop of multiply-adds, if the engine has its instructions. */
async function probe(bytes) {
  if (!WebAssembly.validate(bytes)) return undefined;
  const { instance } = await WebAssembly.instantiate(bytes);
  const { run } = instance.exports;
  // until the engine has compiled it well
  for (let turn = 0; turn < 100; turn++) run(1000);
  return run;
}

function milliseconds(run) {
  const started = performance.now();
  run(ROUNDS);
  return performance.now() - started;
}

const compiled = new Map();

/** The compiled module of a build; it is read and compiled once. */
export function compile(build, onProgress) {
  let module = compiled.get(build.name);
  if (!module) {
    module = compileNow(build, onProgress);
    compiled.set(build.name, module);
    module.catch(() => compiled.delete(build.name));
  }
  return module;
}

async function compileNow({ wasm }, onProgress) {
  if (wasm.protocol === "file:" || typeof WebAssembly.compileStreaming !== "function") {
    return WebAssembly.compile(await read(wasm, onProgress));
  }
  const response = await fetch(wasm);
  if (!response.ok) throw new Error(`cannot read ${wasm}: ${response.status} ${response.statusText}`);
  const type = response.headers.get("content-type") ?? "";
  if (type.startsWith("application/wasm")) {
    const module = await WebAssembly.compileStreaming(response);
    onProgress?.(1, 1);
    return module;
  }
  return WebAssembly.compile(await response.arrayBuffer());
}
