#!/usr/bin/env -S node --no-warnings
// Runs one WebAssembly (WASI) test program in Node: the runner of wasm32-wasip1 that scripts/cross.sh sets.
import { readFile } from "node:fs/promises";
import { argv, env, exit, versions } from "node:process";
import v8 from "node:v8";
import { WASI } from "node:wasi";
import { keepNaN } from "./relaxed.mjs";

// before Node 22, relaxed SIMD is behind an option
if (Number(versions.node.split(".")[0]) < 22) v8.setFlagsFromString("--experimental-wasm-relaxed-simd");

const [, , program, ...args] = argv;
const wasi = new WASI({ version: "preview1", args: [program, ...args], env });
const bytes = await readFile(program);
keepNaN(bytes);
const module = await WebAssembly.compile(bytes);
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
try {
  exit(wasi.start(instance));
} catch (error) {
  // A panic aborts: its message is already on stderr, this adds where.
  console.error(error);
  exit(101);
}
