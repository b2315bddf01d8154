/** Models with golden answers: what every checkout has, and where larger ones are. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { npy } from "./npy.js";

export const root = fileURLToPath(new URL("../..", import.meta.url));
const networks = join(root, "experiments/networks");

/** Trained networks of this project: pictures, classes, scores. */
export const trained = JSON.parse(readFileSync(join(networks, "networks.json"))).networks.map(({ name }) => ({
  name,
  path: join(networks, `${name}.onnx`),
  scores: () => npy(join(networks, `${name}.scores.npy`)).data,
}));

const SIDE = 32;
export const pictures = npy(join(networks, "pictures.npy")).data;
export const classes = npy(join(networks, "classes.npy")).data;

/** Input of the trained networks for a picture. */
export const picture = (at) => ({
  picture: {
    data: Float32Array.from(pictures.subarray(at * SIDE * SIDE, (at + 1) * SIDE * SIDE), (value) => value / 255),
    dims: [1, 1, SIDE, SIDE],
  },
});

/** The folder of real models, if it is there: `TRACT_SPARSE_MODELS`, or `shared/models` beside the checkout. */
export function models() {
  const folders = [process.env.TRACT_SPARSE_MODELS, join(root, "../shared/models"), join(root, "../../shared/models")];
  return folders.find((folder) => folder && existsSync(folder));
}

/** The answers that a reference runtime gives for a real model, in the order of its outputs. */
export function golden(folder, name) {
  const files = readdirSync(join(folder, "golden")).filter((file) => file.startsWith(`${name}.output`));
  files.sort((a, b) => Number(/(\d+)\.npy/.exec(a)[1]) - Number(/(\d+)\.npy/.exec(b)[1]));
  return { input: npy(join(folder, "golden", `${name}.input.npy`)), outputs: files.map((file) => npy(join(folder, "golden", file))) };
}
