/** What goes wrong is an Error that says so, and everything else goes on. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import * as here from "tract-sparse";
import * as worker from "tract-sparse/worker";
import { picture, trained } from "./data.js";
import { near } from "./near.js";
import { onnx } from "./onnx.js";

const { path, scores } = trained.find(({ name }) => name === "4x4-50");
const bytes = readFileSync(path);

const identity = (type, dims = [2]) => onnx({
  nodes: [{ op: "Identity", inputs: ["x"], outputs: ["y"] }],
  inputs: [{ name: "x", type, dims }],
  outputs: [{ name: "y", type, dims }],
});

/** A column and a row, every value with every other, three times. */
const product = onnx({
  nodes: ["Mul", "Add", "Sub"].map((op) => ({ op, inputs: ["column", "row"], outputs: [op] })),
  inputs: [{ name: "column", dims: ["N", 1] }, { name: "row", dims: [1, "M"] }],
  outputs: ["Mul", "Add", "Sub"].map((name) => ({ name, dims: ["N", "M"] })),
});
/** Two outputs of so many rows and columns fit into the 4 GiB that WebAssembly has, three do not. */
const TOO_MANY = 20_000;

for (const [place, { load, prune }] of Object.entries({ here, worker })) {
  test(`${place}: bytes that are no model`, async () => {
    const html = new TextEncoder().encode("<!doctype html><title>404 Not Found</title>");
    for (const wrong of [new Uint8Array(), html, bytes.subarray(0, 20_000), new Uint8Array(4096).fill(7), new Uint8Array([0x1f, 0x8b, 8])]) {
      await assert.rejects(load(wrong), (error) => error instanceof Error && /not a model|cannot|not/.test(error.message)
        && !/stopped/.test(error.message));
    }
  });

  test(`${place}: what cannot be read`, async () => {
    await assert.rejects(load("no/such/file.onnx"), /cannot read no\/such\/file.onnx/);
    await assert.rejects(load("http://127.0.0.1:9/model.onnx"), /cannot read http:\/\/127.0.0.1:9\/model.onnx/);
    await assert.rejects(load(7), { name: "TypeError", message: /expected the bytes of a model/ });
  });

  test(`${place}: options that make no sense`, async () => {
    await assert.rejects(load(bytes, { sparse: "sometimes" }), /sparse: "sometimes", expected auto/);
    await assert.rejects(load(bytes, { precision: "quarter" }), /precision: "quarter", expected f32, half/);
    await assert.rejects(load(bytes, { spares: "auto" }), /there is no spares/);
    await assert.rejects(load(bytes, { build: "mmx" }), /build: "mmx"/);
    await assert.rejects(load(bytes, { inputs: { image: [1, 1, 32, 32] } }), /no input is called "image"; the model has picture/);
    await assert.rejects(load(bytes, { inputs: { picture: [1, 32, 32] } }), /3 dimensions, the input has 4/);
    await assert.rejects(load(bytes, { inputs: { picture: [1, 1, 32, -2] } }), /is no size/);
    await assert.rejects(load(bytes, { inputs: { picture: "1x1x32x32" } }), /expected a shape/);
  });

  test(`${place}: an operator that tract lacks`, async () => {
    const model = onnx({
      nodes: [{ op: "FoldTime", inputs: ["x"], outputs: ["y"] }],
      inputs: [{ name: "x", dims: [2] }],
      outputs: [{ name: "y", dims: [2] }],
    });
    await assert.rejects(load(model), /FoldTime/);
  });

  test(`${place}: inputs that do not suit the model`, async () => {
    const model = await load(bytes);
    const data = new Float32Array(1024);
    for (const [feed, expected] of [
      [{}, /no array for input "picture"/],
      [{ picture: { data }, mask: { data } }, /no input is called "mask"; the model has picture/],
      [{ picture: { data: new Float64Array(1024) } }, /input "picture": data is Float64Array, expected Float32Array/],
      [{ picture: { data: [0] } }, /input "picture": data is Array, expected Float32Array/],
      [{ picture: { data: new Float32Array(1023), dims: [1, 1, 32, 32] } }, /input "picture": 1023 values for dims \[1, 1, 32, 32\]/],
      [{ picture: { data, dims: [1, 1, 1024] } }, /input "picture": dims \[1, 1, 1024\], expected \[1, 1, 32, 32\]/],
      [{ picture: { data, dims: [1, 1, 64, 16] } }, /input "picture": dims/],
      [{ picture: { data, dims: "x" } }, /input "picture": dims: expected an array/],
      [{ picture: {} }, /input "picture": data is undefined/],
      [null, /run: expected/],
    ]) {
      await assert.rejects(model.run(feed), expected);
    }
    await assert.rejects(model.bench(picture(0), { runs: 0 }), /runs: 0/);
    near((await model.run(picture(0))).scores.data, scores().subarray(0, 10), "after all of them");
    model.free();
  });

  test(`${place}: a model that was freed`, async () => {
    const model = await load(bytes);
    model.free();
    model.free();
    for (const use of [() => model.run(picture(0)), () => model.report(), () => model.memory()]) {
      await assert.rejects(use(), /the model was freed/);
    }
  });

  test(`${place}: memory runs out in one model, and others go on`, async () => {
    const [model, other] = [await load(product), await load(bytes)];
    const square = (size) => {
      const data = new Float32Array(size);
      return { column: { data, dims: [size, 1] }, row: { data, dims: [1, size] } };
    };
    assert.equal((await model.run(square(5))).Mul.data.length, 25);
    await assert.rejects(model.run(square(TOO_MANY)), /must be loaded again: .*memory/);
    await assert.rejects(model.run(square(5)), /must be loaded again/);
    near((await other.run(picture(0))).scores.data, scores().subarray(0, 10), "the other one");
    const again = await load(product);
    assert.equal((await again.run(square(5))).Mul.data.length, 25);
    for (const each of [model, other, again]) each.free();
  });

  test(`${place}: recipes that make no sense`, async () => {
    await assert.rejects(prune(bytes, "ratio = 2"), /ratio/);
    await assert.rejects(prune(bytes, "rate = 0.5"), /not a recipe/);
    await assert.rejects(prune(new Uint8Array(100).fill(7), "ratio = 0.5"), /not an ONNX model/);
    await assert.rejects(prune(bytes), /recipe: expected text/);
  });

  test(`${place}: every type that tract and JavaScript share`, async () => {
    for (const [type, data] of Object.entries({
      float16: Uint16Array.of(0x3c00, 0xc500), float32: Float32Array.of(1.5, -2), float64: Float64Array.of(1 / 3, -2),
      int8: Int8Array.of(-1, 2), int16: Int16Array.of(-1, 300), int32: Int32Array.of(-1, 70000), int64: BigInt64Array.of(-1n, 2n ** 40n),
      uint8: Uint8Array.of(1, 255), uint16: Uint16Array.of(1, 65535), uint32: Uint32Array.of(1, 2 ** 32 - 1),
      uint64: BigUint64Array.of(1n, 2n ** 64n - 1n), bool: Uint8Array.of(0, 1),
    })) {
      const model = await load(identity(type));
      assert.equal(model.inputs[0].type, type);
      const { y } = await model.run({ x: { data, dims: [2] } });
      assert.deepEqual(y, { type, data, dims: [2] }, type);
      model.free();
    }
  });

  test(`${place}: symbols take any size`, async () => {
    const model = await load(identity("float32", ["N"]));
    assert.equal(typeof model.inputs[0].dims[0], "string");
    for (const size of [1, 3]) {
      assert.deepEqual((await model.run({ x: { data: new Float32Array(size), dims: [size] } })).y.dims, [size]);
    }
    await assert.rejects(model.run({ x: { data: new Float32Array(2) } }), /dims/);
    model.free();
    const set = await load(identity("float32", ["N"]), { inputs: { x: [4] } });
    assert.deepEqual(set.outputs[0].dims, [4]);
    set.free();
  });
}

test("memory of models that were freed is given back", { skip: globalThis.gc ? false : "no --expose-gc" }, async () => {
  const used = [];
  for (let round = 0; round < 60; round++) {
    const model = await here.load(bytes);
    await model.run(picture(0));
    model.free();
    await new Promise(setImmediate);
    globalThis.gc();
    used.push(process.memoryUsage().arrayBuffers + process.memoryUsage().external);
  }
  // a model has some 10 MiB; of sixty, no more than a few are left
  assert.ok(used.at(-1) <= used[9] + 40 * 2 ** 20, used.map((bytes) => Math.round(bytes / 2 ** 20)).join());
});
