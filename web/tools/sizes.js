// sizes.js           writes size.json: bytes of what a page loads, as they are and compressed
// sizes.js --check   compares with it; fails if anything has grown by more than a twentieth, or names a folder of the machine that
//                    built it

import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const MOST = 1.05;
const file = new URL("../size.json", import.meta.url);

const files = ["simd.wasm", "relaxed.wasm", "simd.js", "relaxed.js"].map((name) => [
  name,
  readFileSync(new URL(`../dist/${name}`, import.meta.url)),
]);

function sizes(bytes) {
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 22 };
  return { raw: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length, brotli: brotliCompressSync(bytes, { params }).length };
}

const now = Object.fromEntries(files.map(([name, bytes]) => [name, sizes(bytes)]));
if (process.argv[2] === "--check") {
  const before = JSON.parse(readFileSync(file));
  for (const [name, kinds] of Object.entries(now)) {
    console.log(`${name}: ${Object.entries(kinds).map(([kind, bytes]) => `${kind} ${bytes}`).join(", ")}`);
    for (const [kind, bytes] of Object.entries(kinds)) {
      if (bytes <= before[name][kind] * MOST) continue;
      console.error(`${name}: ${kind} ${bytes} bytes, more than a twentieth above ${before[name][kind]} in size.json`);
      process.exitCode = 1;
    }
  }
  for (const [name] of files.filter(([, bytes]) => bytes.includes("/registry/src/"))) {
    console.error(`${name}: says where cargo keeps crates on this machine (see build.js)`);
    process.exitCode = 1;
  }
} else {
  writeFileSync(file, `${JSON.stringify(now, null, 1)}\n`);
}
