/** Pictures: those of the samples, and as inputs of networks. */

const SIDE = 32;

/** Positions of pictures that all of the networks are sure of, one of each kind. */
const SHOWN = [83, 69, 60, 3, 37, 121, 82, 28];

/** Pictures of Fashion-MNIST that lie with the networks, as canvases. */
async function fashion() {
  const bytes = new Uint8Array(await (await fetch("/samples/pictures.npy")).arrayBuffer());
  const start = 10 + bytes[8] + 256 * bytes[9];
  return SHOWN.map((at) => {
    const grey = bytes.subarray(start + at * SIDE * SIDE, start + (at + 1) * SIDE * SIDE);
    const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
    const image = new ImageData(SIDE, SIDE);
    grey.forEach((value, at) => image.data.set([value, value, value, 255], 4 * at));
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  });
}

async function photos() {
  const there = await (await fetch("/samples/")).json();
  const names = ["parrot.jpg", "cat.bmp", "grace_hopper.bmp"].filter((name) => there.includes(name));
  const open = async (name) => createImageBitmap(await (await fetch(`/samples/${name}`)).blob());
  const found = await Promise.all(names.map(open));
  return found.length ? found : [drawn()];
}

/** A picture for where there is no other. */
function drawn() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 224, height: 224 });
  const context = canvas.getContext("2d");
  const sky = context.createLinearGradient(0, 0, 224, 224);
  sky.addColorStop(0, "#d55e00");
  sky.addColorStop(1, "#0072b2");
  context.fillStyle = sky;
  context.fillRect(0, 0, 224, 224);
  return canvas;
}

const kinds = { fashion, photos };
const loaded = new Map();

/** The pictures of a kind, read once. */
export function pictures(kind) {
  if (!loaded.has(kind)) loaded.set(kind, kinds[kind]());
  return loaded.get(kind);
}

const SCALES = {
  unit: (value) => value / 255,
  signed: (value) => value / 127.5 - 1,
  bytes: (value) => value,
  imagenet: (value, channel) => (value / 255 - [0.485, 0.456, 0.406][channel]) / [0.229, 0.224, 0.225][channel],
};

/** Height, width and channels of an input, and whether channels come first. */
export function layout({ name, type, dims }) {
  const sizes = dims.map((dim) => (typeof dim === "number" ? dim : 1));
  const picture = (channels) => channels === 1 || channels === 3;
  if (type === "float32" && dims.length === 4 && sizes[0] === 1) {
    if (picture(sizes[1]) && typeof dims[2] === "number") return { sizes, channels: sizes[1], height: sizes[2], width: sizes[3], first: true };
    if (picture(sizes[3]) && typeof dims[1] === "number") return { sizes, channels: sizes[3], height: sizes[1], width: sizes[2], first: false };
  }
  throw new Error(`input ${name} (${type}, ${dims.join(" × ")}) takes no picture: this page wants float32, 1 × 3 × height × width`);
}

/** A picture as the input of a network, and as it is shown. */
export function prepare(source, input, scale) {
  const { sizes, channels, height, width, first } = layout(input);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height).data;
  const data = new Float32Array(channels * width * height);
  const of = SCALES[scale];
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let channel = 0; channel < channels; channel++) {
      const at = first ? channel * width * height + pixel : pixel * channels + channel;
      data[at] = of(pixels[4 * pixel + channel], channel);
    }
  }
  return { canvas, tensor: { data, dims: sizes } };
}
