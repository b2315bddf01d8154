/** Answers: golden outputs, in this thread and in a worker, in every build and mode. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import test from "node:test";
import * as here from "tract-sparse";
import * as worker from "tract-sparse/worker";
import { classes, golden, models, picture, root, trained } from "./data.js";
import { largest, near } from "./near.js";
import { onnx } from "./onnx.js";
import { hasRelaxed } from "./relaxed.js";

const BUILDS = hasRelaxed ? ["simd", "relaxed"] : ["simd"];
if (!hasRelaxed) console.error("NOT RUN: tests of the relaxed build: this Node has no relaxed SIMD");
const SHOWN = 50;

for (const build of BUILDS) {
  for (const { name, path, scores } of trained) {
    test(`${name}, ${build}: scores of the pictures`, async () => {
      const [model, expected] = [await here.load(path, { build }), scores()];
      assert.deepEqual(model.inputs, [{ name: "picture", type: "float32", dims: [1, 1, 32, 32] }]);
      assert.deepEqual(model.outputs, [{ name: "scores", type: "float32", dims: [1, 10] }]);
      assert.equal(model.build, build);
      for (let at = 0; at < SHOWN; at++) {
        const { scores } = await model.run(picture(at));
        assert.deepEqual(scores.dims, [1, 10]);
        near(scores.data, expected.subarray(10 * at, 10 * at + 10), `picture ${at}`);
      }
      const report = await model.report();
      assert.equal(report.layers_sparse, report.layers.filter((layer) => layer.chosen).length);
      assert.equal(report.layers_sparse > 0, name !== "dense", report.text);
      model.free();
    });
  }
}

test("pictures get the classes that networks.json says", async () => {
  const { networks } = JSON.parse(readFileSync(join(root, "experiments/networks/networks.json")));
  const { name, right } = networks.find(({ name }) => name === "4x4-50");
  const model = await here.load(join(root, `experiments/networks/${name}.onnx`));
  let got = 0;
  for (let at = 0; at < classes.length; at++) {
    got += largest((await model.run(picture(at))).scores.data) === classes[at];
  }
  assert.equal(got, right);
  model.free();
});

test("half precision is f32 here, and the report says why", async () => {
  const { path, scores } = trained.find(({ name }) => name === "4x4-50");
  for (const { load } of [here, worker]) {
    const model = await load(path, { precision: "half" });
    const { text, precision_note, layers } = await model.report();
    near((await model.run(picture(0))).scores.data, scores().subarray(0, 10), "half");
    assert.match(precision_note, /no kernels in half precision for wasm/);
    assert.match(text.replace(/\s+/g, " "), /all layers run in f32/);
    const ours = layers.filter(({ chosen }) => chosen);
    assert.ok(ours.length > 0 && ours.every(({ precision, why_f32 }) => precision === "f32" && why_f32 === precision_note));
    model.free();
  }
  const model = await here.load(path);
  assert.equal((await model.report()).precision_note, null);
  model.free();
});

test("every mode gives the same answer", async () => {
  const { path, scores } = trained.find(({ name }) => name === "4x4-50");
  for (const sparse of ["auto", "always", "dense", "never"]) {
    const model = await here.load(path, { sparse });
    near((await model.run(picture(0))).scores.data, scores().subarray(0, 10), sparse);
    const { layers_sparse } = await model.report();
    assert.equal(layers_sparse > 0, sparse !== "never", sparse);
    model.free();
  }
});

test("a worker gives the same answer, from a path, a URL and bytes", async () => {
  const { path, scores } = trained[0];
  const bytes = readFileSync(path);
  for (const source of [path, pathToFileURL(path), pathToFileURL(path).href, bytes, bytes.buffer.slice(
    bytes.byteOffset, bytes.byteOffset + bytes.length)]) {
    const phases = new Set();
    const model = await worker.load(source, { onProgress: ({ phase }) => phases.add(phase) });
    assert.ok(phases.has("prepare"), [...phases].join());
    near((await model.run(picture(0))).scores.data, scores().subarray(0, 10), String(source).slice(0, 60));
    const times = await model.bench(picture(0), { runs: 3 });
    assert.ok(times.length === 3 && times.every((ms) => ms >= 0), times.join());
    assert.ok((await model.report()).text.includes("layer"));
    model.free();
  }
});

const folder = models();
for (const build of BUILDS) {
  for (const name of ["hand_landmark_sparse", "face_detection_full_range_sparse", "mobilenet_v2_1.0_224", "version-RFB-320",
    "FastestDet", "yunet_n_320_320", "resnet8_large_cifar10", "ds_cnn_kws"]) {
    const skip = folder ? false : "the folder of real models is not there";
    test(`${name}, ${build}: golden outputs`, { skip }, async () => {
      const { input, outputs } = golden(folder, name);
      for (const sparse of ["auto", "dense", "never"]) {
        const model = await here.load(join(folder, `${name}.onnx`), {
          sparse, build, inputs: { [await inputOf(join(folder, `${name}.onnx`))]: input.dims },
        });
        const got = await model.run({ [model.inputs[0].name]: input });
        outputs.forEach(({ data, dims }, at) => {
          const output = got[model.outputs[at].name];
          assert.deepEqual(output.dims, dims);
          near(output.data, data, `${sparse}, output ${at}`);
        });
        model.free();
      }
    });
  }
}

/** Name of the first input. */
async function inputOf(path) {
  const model = await here.load(path, { sparse: "never" });
  const [{ name }] = model.inputs;
  model.free();
  return name;
}

const convert = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "release/tract-sparse");
test("NNEF archives give the same answer", { skip: existsSync(convert) ? false : `no ${convert}` }, async () => {
  const { path, scores } = trained.find(({ name }) => name === "4x4-50");
  const into = mkdtempSync(join(tmpdir(), "tract-sparse-"));
  for (const end of ["nnef.tgz", "nnef.tar"]) {
    const archive = join(into, `model.${end}`);
    execFileSync(convert, ["convert", path, "-o", archive], { stdio: "ignore" });
    const model = await here.load(archive);
    assert.ok((await model.report()).layers_sparse > 0);
    near((await model.run(picture(0)))[model.outputs[0].name].data, scores().subarray(0, 10), end);
    model.free();
  }
  rmSync(into, { recursive: true });
});

test("what prune makes runs sparse", async () => {
  const dense = trained.find(({ name }) => name === "dense").path;
  for (const { prune } of [here, worker]) {
    const bytes = await prune(dense, 'ratio = 0.8\nscope = "global"');
    const model = await here.load(bytes);
    const { layers_sparse, layers } = await model.report();
    assert.ok(layers_sparse > 0);
    assert.ok(layers.some(({ zeros }) => zeros.startsWith("4x4:")));
    model.free();
  }
});

test("memory is flat over 500 runs", async () => {
  const model = await here.load(trained.find(({ name }) => name === "4x4-50").path);
  await model.run(picture(0));
  const before = await model.memory();
  for (let run = 0; run < 500; run++) await model.run(picture(run % 200));
  assert.equal(await model.memory(), before);
  model.free();
});

for (const build of BUILDS) {
  test(`NaN stays where it is clamped, ${build}`, async () => {
    const file = onnx({
      nodes: [
        { op: "Conv", inputs: ["x", "w"], outputs: ["sums"] },
        { op: "Clip", inputs: ["sums", "least", "most"], outputs: ["clipped"] },
      ],
      tensors: [
        { name: "w", data: Float32Array.from({ length: 64 }, (_, at) => at % 5 - 2), dims: [8, 8, 1, 1] },
        { name: "least", data: Float32Array.of(0), dims: [] }, { name: "most", data: Float32Array.of(6), dims: [] },
      ],
      inputs: [{ name: "x", dims: [1, 8, 3, 7] }],
      outputs: [{ name: "clipped", dims: [1, 8, 3, 7] }],
    });
    for (const sparse of ["always", "dense", "never"]) {
      const model = await here.load(file, { build, sparse });
      const { clipped } = await model.run({ x: { data: new Float32Array(8 * 21).fill(NaN), dims: [1, 8, 3, 7] } });
      assert.ok(clipped.data.every(Number.isNaN), `${sparse}: ${clipped.data.subarray(0, 24)}`);
      model.free();
    }
  });
}

test("the build is simd, or the faster one where that is asked for", async () => {
  assert.ok(BUILDS.includes(await here.build()));
  const [{ path }] = trained;
  for (const [build, expected] of [[undefined, "simd"], ["fastest", await here.build()], ["simd", "simd"]]) {
    const model = await here.load(path, { build });
    assert.equal(model.build, expected);
    model.free();
  }
  assert.ok(BUILDS.includes(await worker.build()));
});
