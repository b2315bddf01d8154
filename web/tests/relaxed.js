/** Node before 22 has relaxed SIMD behind an option of its engine. */

import v8 from "node:v8";
import { fused } from "../js/probe.js";

if (!WebAssembly.validate(fused)) v8.setFlagsFromString("--experimental-wasm-relaxed-simd");

export const hasRelaxed = WebAssembly.validate(fused);
