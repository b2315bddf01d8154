/** The page: what is chosen, loaded, run in turn and shown. */

import { load, maps as mapsOf, prune } from "../js/worker.js";
import * as charts from "./charts.js";
import { recipe, samples, unknown } from "./networks.js";
import { pictures, prepare } from "./picture.js";

const $ = (id) => document.getElementById(id);

/** Runs whose median is shown. */
const KEPT = 15;

const now = {
  network: undefined, // what is known of it
  bytes: undefined, // the file as it came
  source: undefined, // the picture
  models: undefined, // { stock, sparse }
  feed: undefined,
  paused: false,
  turn: 0, // of loading: a later one ends an earlier one
};

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

/** Does something, and says what went wrong. */
const trying = (work) => async (...args) => {
  try {
    await work(...args);
  } catch (error) {
    $("progress").hidden = true;
    say(error.message, true);
  }
};

function progress({ phase, loaded, total }) {
  $("progress").hidden = false;
  if (phase === "prepare") $("progress").removeAttribute("value");
  else $("progress").value = total ? loaded / total : 0;
}

/** Opens a network: a sample or a file. */
async function open(network, bytes) {
  say(`Loading ${network.title}.`);
  Object.assign(now, { network, bytes });
  $("scale").value = network.scale;
  $("ratio").value = 0;
  const turn = ++now.turn;
  const found = await pictures(network.pictures);
  if (turn !== now.turn) return;
  showPictures(found);
  await reload();
}

/** Loads the network anew, with the zeros that are asked for. */
async function reload() {
  const turn = ++now.turn;
  const { network, bytes } = now;
  const ratio = Number($("ratio").value) / 100;
  $("ratio-text").value = ratio ? `${$("ratio").value} %` : "as it is";
  end();
  let file = bytes;
  if (ratio) {
    say(`Pruning ${network.title}.`);
    file = await prune(bytes, recipe(ratio, $("blocks").value));
  }
  if (turn !== now.turn) return;
  say(`Loading ${network.title}.`);
  const sparse = await load(file, { sparse: "dense", build: "fastest", onProgress: progress });
  let stock;
  try {
    stock = await load(file, { sparse: "never", build: "fastest" });
  } catch (error) {
    sparse.free();
    throw error;
  }
  if (turn !== now.turn) {
    sparse.free();
    stock.free();
    return;
  }
  $("progress").hidden = true;
  now.models = { stock, sparse, times: { stock: [], sparse: [] } };
  const report = await sparse.report();
  if (turn !== now.turn) return;
  const size = (file.byteLength / 1e6).toFixed(1);
  say(`${network.title}: ${size} MB, ready in ${Math.round(sparse.loadMs)} ms, ${sparse.build === "relaxed" ? "fused" : "plain"} SIMD.`);
  $("layers-hint").textContent =
    `Predicted times: stock above, here below. ${report.layers_sparse} of ${report.layers.length} layers run on kernels of ours.`;
  charts.layers($("layers"), report);
  await answer();
  beat(turn);
  const found = await mapsOf(file);
  if (turn === now.turn) await charts.maps($("maps"), found);
}

function end() {
  now.models?.stock.free();
  now.models?.sparse.free();
  now.models = undefined;
}

/** Runs both on the picture, and shows the answer. */
async function answer() {
  const { models, network, source } = now;
  if (!models || !source) return;
  const [input] = models.sparse.inputs;
  const { canvas, tensor } = prepare(source, input, $("scale").value);
  now.feed = { [input.name]: tensor };
  const [stock, sparse] = [await models.stock.run(now.feed), await models.sparse.run(now.feed)];
  if (models !== now.models) return;
  $("agreement").textContent = `Largest difference of an output: ${difference(stock, sparse).toExponential(0)}.`;
  draw(canvas);
  const outputs = models.sparse.outputs.map(({ name }) => sparse[name]);
  if (network.points) points(outputs[0].data, canvas, network.points);
  else await classes(models.sparse.outputs, outputs, network.labels);
}

function difference(a, b) {
  let most = 0;
  for (const [name, { data }] of Object.entries(a)) {
    data.forEach((value, at) => { most = Math.max(most, Math.abs(Number(value) - Number(b[name].data[at]))); });
  }
  return most;
}

function draw(picture) {
  const view = $("view");
  const context = view.getContext("2d");
  context.imageSmoothingEnabled = picture.width > 64;
  const scale = Math.min(view.width / picture.width, view.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  context.clearRect(0, 0, view.width, view.height);
  context.drawImage(picture, (view.width - width) / 2, (view.height - height) / 2, width, height);
}

/** The joints of a hand, and what joins them. */
const BONES = [0, 1, 2, 3, 4].flatMap((finger) => {
  const first = 4 * finger + 1;
  return [[0, first], [first, first + 1], [first + 1, first + 2], [first + 2, first + 3]];
});

function points(values, picture, count) {
  const context = $("view").getContext("2d");
  const scale = $("view").width / picture.width;
  const place = (at) => [values[3 * at] * scale, values[3 * at + 1] * scale];
  context.strokeStyle = context.fillStyle = getComputedStyle($("times")).color;
  context.lineWidth = 3;
  for (const [from, to] of BONES) {
    context.beginPath();
    context.moveTo(...place(from));
    context.lineTo(...place(to));
    context.stroke();
  }
  for (let at = 0; at < count; at++) {
    context.beginPath();
    context.arc(...place(at), 5, 0, 7);
    context.fill();
  }
  const item = Object.assign(document.createElement("li"), { textContent: `${count} landmarks` });
  $("classes").replaceChildren(item);
}

async function classes(infos, outputs, labels) {
  const at = outputs.findIndex(({ data }) => data.length >= 2 && data.length <= 25_000);
  const rows = [];
  if (at >= 0 && outputs[at].dims.filter((size) => size > 1).length === 1) {
    const names = (await labels?.()) ?? [];
    const shares = softmax(Array.from(outputs[at].data, Number));
    const order = shares.map((_, at) => at).sort((a, b) => shares[b] - shares[a]).slice(0, 5);
    rows.push(...order.map((at) => [names[at] ?? `class ${at}`, `${(100 * shares[at]).toFixed(1)} %`]));
  } else {
    rows.push(...infos.map(({ name }, at) => [name, outputs[at].dims.join(" × ")]));
  }
  $("classes").replaceChildren(...rows.map(([name, value]) => {
    const item = document.createElement("li");
    item.append(name, Object.assign(document.createElement("span"), { textContent: value }));
    return item;
  }));
  $("view").setAttribute("aria-label", `The picture: ${rows[0]?.join(", ")}`);
}

/** Shares of scores, unless they are shares. */
function softmax(scores) {
  const sum = scores.reduce((a, b) => a + b, 0);
  if (Math.abs(sum - 1) < 1e-3 && scores.every((score) => score >= 0)) return scores;
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Times both in turn for as long as this network is the one that is shown. */
const beat = trying(async (turn) => {
  for (;;) {
    const { models } = now;
    if (!models || turn !== now.turn) return;
    if (now.paused || document.hidden || !now.feed) {
      await pause(200);
      continue;
    }
    try {
      for (const name of ["stock", "sparse"]) {
        const { times } = models;
        times[name] = [...times[name], ...(await models[name].bench(now.feed, { runs: 2 }))].slice(-KEPT);
      }
    } catch (error) {
      // freed meanwhile: another network is on its way
      if (models !== now.models) return;
      throw error;
    }
    show(models.times);
    await pause(60);
  }
});

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

function show({ stock, sparse }) {
  const [slow, fast] = [median(stock), median(sparse)];
  const longest = Math.max(slow, fast);
  for (const [name, ms] of [["stock", slow], ["sparse", fast]]) {
    $(`${name}-bar`).style.width = `calc((100% - 6rem) * ${(ms / longest).toFixed(4)})`;
    $(`${name}-ms`).textContent = `${ms.toFixed(ms < 10 ? 2 : 1)} ms`;
  }
  $("times").textContent = (slow / fast).toFixed(1);
}

function showPictures(found) {
  const choose = (source, button) => {
    for (const other of $("pictures").children) other.setAttribute("aria-pressed", String(other === button));
    now.source = source;
    return answer();
  };
  $("pictures").replaceChildren(...found.map((source, at) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
    const context = canvas.getContext("2d");
    const side = Math.min(source.width, source.height);
    context.drawImage(source, (source.width - side) / 2, (source.height - side) / 2, side, side, 0, 0, 64, 64);
    button.append(canvas);
    button.setAttribute("aria-label", `Picture ${at + 1}`);
    button.addEventListener("click", trying(() => stopCamera() ?? choose(source, button)));
    return button;
  }));
  now.source = found[0];
  $("pictures").firstElementChild?.setAttribute("aria-pressed", "true");
}

async function openFile(file) {
  if (file.type.startsWith("image/")) {
    now.source = await createImageBitmap(file).catch(() => { throw new Error(`${file.name} is no picture that this browser reads`); });
    for (const button of $("pictures").children) button.setAttribute("aria-pressed", "false");
    await answer();
  } else {
    await open(unknown(file.name), new Uint8Array(await file.arrayBuffer()));
  }
}

let stream;

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = undefined;
  $("camera").setAttribute("aria-pressed", "false");
}

async function toggleCamera() {
  if (stream) return stopCamera();
  if (!navigator.mediaDevices) throw new Error("The browser gives the camera to pages over https or from this machine only.");
  stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, facingMode: "environment" } })
    .catch(({ message }) => { throw new Error(`There is no camera to look through: ${message}`); });
  $("camera").setAttribute("aria-pressed", "true");
  $("video").srcObject = stream;
  await $("video").play();
  while (stream) {
    if (!document.hidden && now.models) {
      now.source = await createImageBitmap($("video"));
      await answer();
    }
    await new Promise(requestAnimationFrame);
  }
}

async function begin() {
  const found = await samples();
  for (const [at, { title }] of found.entries()) $("sample").append(new Option(title, at));
  const choose = trying(async () => {
    const network = found[Number($("sample").value)];
    const response = await fetch(`/samples/${network.file}`);
    if (!response.ok) throw new Error(`${network.title} cannot be read: ${response.status} ${response.statusText}`);
    await open(network, new Uint8Array(await response.arrayBuffer()));
  });
  $("sample").addEventListener("change", choose);
  $("ratio").addEventListener("input", () => {
    $("ratio-text").value = Number($("ratio").value) ? `${$("ratio").value} %` : "as it is";
  });
  $("ratio").addEventListener("change", trying(reload));
  $("blocks").addEventListener("change", trying(async () => { if (Number($("ratio").value)) await reload(); }));
  $("scale").addEventListener("change", trying(answer));
  for (const id of ["file", "photo"]) {
    $(id).addEventListener("change", trying(async () => {
      const [file] = $(id).files;
      if (file) await openFile(file);
      $(id).value = "";
    }));
  }
  $("camera").addEventListener("click", trying(toggleCamera));
  $("pause").addEventListener("click", () => {
    now.paused = !now.paused;
    $("pause").setAttribute("aria-pressed", String(now.paused));
  });
  addEventListener("dragover", (event) => { event.preventDefault(); $("drop").hidden = false; });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    const [file] = event.dataTransfer.files;
    if (file) trying(openFile)(file);
  });
  if (found.length) await choose();
  else say("There are no samples: open a network.");
}

trying(begin)();
