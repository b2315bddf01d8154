// Serves the page with its samples, to this machine alone: `npm run demo`, or `node demo/serve.js PORT`.

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const web = fileURLToPath(new URL("..", import.meta.url));
const networks = join(web, "../experiments/networks");
const models = [process.env.TRACT_SPARSE_MODELS, join(web, "../../shared/models"), join(web, "../../../shared/models")]
  .find((folder) => folder && existsSync(folder));

const TYPES = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".json": "application/json",
  ".wasm": "application/wasm", ".svg": "image/svg+xml", ".jpg": "image/jpeg", ".bmp": "image/bmp", ".txt": "text/plain; charset=utf-8",
};

/** Files of samples, by the names that the page knows them by: those that are there. */
function samples() {
  const trained = ["dense", "4x4-30", "4x4-50", "2x1-80"].map((name) => [`fashion-${name}.onnx`, join(networks, `${name}.onnx`)]);
  const own = [...trained, ["pictures.npy", join(networks, "pictures.npy")]];
  const real = !models ? [] : [
    ["mobilenet-v2.onnx", join(models, "mobilenet_v2_1.0_224.onnx")],
    ["hand.onnx", join(models, "hand_landmark_sparse.onnx")],
    ["imagenet.txt", join(models, "inputs/imagenet_labels.txt")],
    ...["parrot.jpg", "cat.bmp", "grace_hopper.bmp"].map((name) => [name, join(models, "inputs", name)]),
  ];
  return new Map([...own, ...real].filter(([, file]) => existsSync(file)));
}

const known = samples();

/** The file that an address means, if there is one: a sample, or one of a folder. */
function fileOf(path, folders) {
  if (path.startsWith("/samples/")) return known.get(path.slice("/samples/".length));
  const [prefix, folder] = Object.entries(folders).find(([prefix]) => path.startsWith(prefix)) ?? ["/", web];
  const inside = path.slice(prefix.length);
  const file = normalize(join(folder, inside === "" || inside.endsWith("/") ? `${inside}index.html` : inside));
  return file.startsWith(folder) && existsSync(file) && statSync(file).isFile() ? file : undefined;
}

/** A server that listens; port 0 is any that is free. `folders` are others than this package, by the beginnings of their addresses. */
export function serve(port = 0, folders = {}) {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const headers = {
      "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp", "Cache-Control": "no-cache",
    };
    if (pathname === "/") return response.writeHead(302, { Location: "/demo/" }).end();
    if (pathname === "/samples/") {
      return response.writeHead(200, { ...headers, "Content-Type": TYPES[".json"] }).end(JSON.stringify([...known.keys()]));
    }
    const file = fileOf(decodeURIComponent(pathname), folders);
    if (!file) return response.writeHead(404, headers).end("not found");
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { ...headers, "Content-Type": type, "Content-Length": statSync(file).size });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!existsSync(join(web, "dist/simd.wasm"))) {
    console.error("web/dist is empty: npm run build");
    process.exit(1);
  }
  const server = await serve(Number(process.argv[2] ?? 8080));
  console.log(`http://localhost:${server.address().port}/demo/`);
  if (!models) console.log("MobileNet and hand landmarks are among the samples if TRACT_SPARSE_MODELS says where they are");
}
