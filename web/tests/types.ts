// What the types promise: compiled, not run.

import { build, load, prune, type Build, type Model, type OutputTensor } from "tract-sparse";
import * as worker from "tract-sparse/worker";

const model: Model = await load("model.onnx", { sparse: "dense", inputs: { x: [1, "N"] }, onProgress: ({ phase }) => phase.length });
const outputs: Record<string, OutputTensor> = await model.run({ x: { data: new Float32Array(2), dims: [1, 2] } });
const dims: number[] = outputs["y"]!.dims;
const same: Model = await worker.load(new Uint8Array(dims));
const times: Float64Array = await same.bench({ x: { data: BigInt64Array.of(1n) } }, { runs: 3 });
const picked: Build = await build();
const bytes: Uint8Array = await prune(new Blob(), "ratio = 0.5");
same.free();

// @ts-expect-error there is no such mode
await load(bytes, { sparse: "sometimes" });
// @ts-expect-error text is no typed array
await model.run({ x: { data: picked } });
// @ts-expect-error times are numbers
export const text: string = times[0];
