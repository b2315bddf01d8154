// Times networks in Node and Chromium: ours, stock tract with the same instructions, onnxruntime-web and LiteRT.js, one thread each, in turn.
//
//   npm install --prefix bench && node bench/bench.js [-o FILE.md]
//
//   --rounds N       runs of each engine (40)
//   --tflite FOLDER  NAME.tflite for LiteRT.js, by the names of the networks here; those without are not timed there
//   --only TEXT      networks whose names have it
//   --build NAME     simd, relaxed, or what is faster here (fastest)
//   --note TEXT      what else there is to know, for the head of the results
//
// Networks are written into target/web-bench by the command line, target/release/tract-sparse; trained ones are where TRACT_SPARSE_MODELS says.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { prune } from "../js/index.js";
import { serve } from "../demo/serve.js";
import { models, root } from "../tests/data.js";
import { onnx } from "../tests/onnx.js";
import { hasRelaxed } from "../tests/relaxed.js";
import { timed } from "./timed.js";

const { values: options } = parseArgs({
  options: {
    output: { type: "string", short: "o" }, rounds: { type: "string", default: "40" }, tflite: { type: "string" }, only: { type: "string", default: "" },
    build: { type: "string", default: "fastest" }, note: { type: "string", default: "" },
  },
});
const rounds = Number(options.rounds);
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const folder = join(target, "web-bench");
mkdirSync(folder, { recursive: true });

/** Networks of the zoo: the name that a TFLite twin has, and their zeros. */
const ZOO = [
  ...[0.3, 0.5, 0.8, 0.9].map((ratio) => ["mobilenet-v1", `4x4 ${100 * ratio} %`, ["--conv1x1", `4x4:${ratio}`, "--dwconv3x3", "3:9"]]),
  ...[0.3, 0.5, 0.8].map((ratio) => ["mobilenet-v2", `4x4 ${100 * ratio} %`, ["--conv1x1", `4x4:${ratio}`, "--dwconv3x3", "3:9"]]),
  ["resnet-18", "5:9", ["--conv3x3", "5:9"]],
  ...["mobilenet-v1", "mobilenet-v2", "resnet-18"].map((name) => [name, "dense", []]),
];
const REAL = [["hand_landmark_sparse", "auto"], ["face_detection_full_range_sparse", "auto"], ["version-RFB-320", "dense"], ["resnet8_large_cifar10", "dense"]];

function zoo([name, zeros, words]) {
  const file = join(folder, `${name}-${zeros.replaceAll(/[^a-z0-9]/g, "-")}.onnx`);
  if (!existsSync(file)) execFileSync(join(target, "release/tract-sparse"), ["zoo", name, ...words, "-o", file], { stdio: "ignore" });
  return { name, zeros, file, sparse: zeros === "dense" ? "dense" : "auto" };
}

/** A convolution of one pixel on a square map, with three tenths of its 4x4 blocks zero, and dense. */
async function pointwise(map, channels) {
  const [input, output] = channels;
  const weights = Float32Array.from({ length: input * output }, (_, at) => (((at * 7919) % 509) - 254) / 2540);
  const dense = onnx({
    nodes: [{ op: "Conv", inputs: ["x", "w"], outputs: ["y"] }],
    tensors: [{ name: "w", data: weights, dims: [output, input, 1, 1] }],
    inputs: [{ name: "x", dims: [1, input, map, map] }],
    outputs: [{ name: "y", dims: [1, output, map, map] }],
  });
  const name = `conv1x1 ${input} to ${output}, ${map}x${map}`;
  const file = (kind) => join(folder, `${name.replaceAll(/[^a-z0-9]/g, "-")}-${kind}.onnx`);
  writeFileSync(file("dense"), dense);
  writeFileSync(file("sparse"), await prune(dense, 'ratio = 0.3\nconv1x1 = "4x4"'));
  return { name, map, zeros: "4x4 30 %", file: file("sparse"), dense: file("dense"), sparse: "always" };
}

/** The maps of figure 9 of SparseByteNN, which does not say how many channels its layers have, and by how much a layer with three tenths
 * of its weights zero is faster there than a dense one: in Chrome, on a laptop. */
const FIGURE_9 = new Map([[64, 1 / (1 - 0.223)], [96, 1 / (1 - 0.2415)], [128, 1 / (1 - 0.277)]]);
const PAIRS = [[32, 64], [64, 64], [64, 128], [128, 128]];
const real = models();
const networks = [
  ...ZOO.map(zoo),
  ...(real ? REAL : []).map(([name, sparse]) => ({ name, zeros: sparse === "auto" ? "published" : "dense", file: join(real, `${name}.onnx`), sparse })),
  ...await Promise.all([...FIGURE_9.keys()].flatMap((map) => PAIRS.map((pair) => pointwise(map, pair)))),
].filter(({ name, zeros }) => `${name} ${zeros}`.includes(options.only));
for (const network of networks) {
  const twin = options.tflite && resolve(options.tflite, `${network.name}.tflite`);
  if (twin && existsSync(twin)) network.tflite = twin;
}

const found = [];
const rivals = existsSync(join(root, "web/bench/node_modules/onnxruntime-web"));
if (!rivals) console.error("NOT RUN: onnxruntime-web and LiteRT.js: npm install --prefix bench");
const server = await serve(0, { "/rivals/": join(root, "web/bench/node_modules"), "/files/": "/" });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const tab = await browser.newPage();
await tab.goto(`http://127.0.0.1:${server.address().port}/bench/page.html`);
for (const network of networks) {
  const urls = Object.fromEntries(["file", "dense", "tflite"].flatMap((kind) => (network[kind] ? [[kind, `/files${network[kind]}`]] : [])));
  const inPage = await tab.evaluate((given) => globalThis.timed(given), { ...network, ...urls, build: options.build, rounds, rivals });
  const inNode = await timed({
    ...network, file: readFileSync(network.file), dense: network.dense && readFileSync(network.dense), build: options.build, rounds,
    tflite: undefined,
  });
  found.push({ network, inPage, inNode });
  console.error(row(found.at(-1)));
}
const version = browser.version();
await browser.close();
server.close();

function row({ network, inPage: { ms, ratios, build }, inNode }) {
  const cell = (engine) => (ms[engine] === undefined ? "" : `${ms[engine].toPrecision(3)}${ratios[engine] ? ` (${ratios[engine].toFixed(2)})` : ""}`);
  const node = ["stock", "ours", "dense"].flatMap((engine) => inNode.ms[engine]?.toPrecision(3) ?? []).join(" / ");
  return `| ${network.name} | ${network.zeros} | ${build} | ${["ours", "stock", "dense", "onnxruntime-web", "LiteRT.js"].map(cell).join(" | ")} | ${node} |`;
}

/** How many times as fast the layers with zeros are as the same ones without, on each map. */
function figure9() {
  const mean = (values) => Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
  const rows = [...FIGURE_9].flatMap(([map, paper]) => {
    const layers = found.filter(({ network }) => network.map === map);
    const over = (place) => mean(layers.map((layer) => layer[place].ratios.dense)).toFixed(2);
    return layers.length ? [`| ${map}x${map} | ${over("inPage")} | ${over("inNode")} | ${paper.toFixed(2)} |`] : [];
  });
  return rows.length ? `
Figure 9 of SparseByteNN (arXiv 2310.19509): 1x1 convolutions with 30 % of their 4x4 blocks zero, times as fast as our own dense ones; geometric
means over the channels above of each map.

| map | Chromium | Node | the paper, in Chrome |
|---|---|---|---|
${rows.join("\n")}
` : "";
}

const command = ["node bench/bench.js", ...process.argv.slice(2).map((word) => (/^[-.\w/]+$/.test(word) ? word : `'${word}'`))];
for (const hidden of ["-o", "--output", "--note", "--tflite"]) {
  const at = command.indexOf(hidden);
  if (at > 0) command.splice(at, 2);
}

const text = `# Networks in a browser

${cpus()[0].model}, one thread; Chromium ${version}, Node ${process.versions.node}${hasRelaxed ? "" : " without relaxed SIMD"}; ${new Date().toISOString().slice(0, 10)}.
Command: \`${command.join(" ")}\`, ${rounds} rounds. Median milliseconds in Chromium; in parentheses the median, over rounds in which every engine ran once,
of that engine's time over ours. *dense* is the same layer without zeros on our kernels. LiteRT.js runs dense twins. Node: stock / ours / dense.${options.note && `\n${options.note}`}

| network | zeros | build | ours | stock | dense | onnxruntime-web | LiteRT.js | Node |
|---|---|---|---|---|---|---|---|---|
${found.map(row).join("\n")}
${figure9()}`;
if (options.output) writeFileSync(options.output, text);
else console.log(text);
