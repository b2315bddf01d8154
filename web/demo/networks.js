/** What is known of the samples: how their pictures are prepared, and what their answers mean. */

const FASHION = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

const fashion = (name, title) => ({
  file: `fashion-${name}.onnx`, title, scale: "unit", pictures: "fashion", labels: async () => FASHION,
});

const SAMPLES = [
  fashion("4x4-50", "Clothes, half of 4 × 4 blocks zero"),
  fashion("4x4-30", "Clothes, 30 % of 4 × 4 blocks zero"),
  fashion("2x1-80", "Clothes, 80 % of pairs zero"),
  fashion("dense", "Clothes, no zeros"),
  { file: "mobilenet-v2.onnx", title: "MobileNet v2, 1000 things", scale: "signed", pictures: "photos", labels: imagenet },
  { file: "hand.onnx", title: "Hand landmarks, published with 80 % zeros", scale: "unit", pictures: "photos", points: 21 },
];

async function imagenet() {
  const response = await fetch("/samples/imagenet.txt");
  return response.ok ? (await response.text()).trim().split("\n").map((line) => line.replace(/^\d+\s+/, "")) : undefined;
}

/** The samples that the server has. */
export async function samples() {
  const response = await fetch("/samples/");
  const there = new Set(response.ok ? await response.json() : []);
  return SAMPLES.filter(({ file }) => there.has(file));
}

/** What a file is taken for that is no sample. */
export const unknown = (title) => ({ title, scale: "unit", pictures: "photos" });

/** The recipe of a share of zeros. */
export function recipe(ratio, blocks) {
  const spatial = blocks === "4x4" ? "4x1" : blocks;
  const wide = ["conv1x1", "fc", "recurrent"].map((kind) => `${kind} = "${blocks}"`);
  const kernels = ["conv3x3", "conv"].map((kind) => `${kind} = "${spatial}"`);
  return [`ratio = ${ratio}`, ...wide, ...kernels].join("\n");
}
