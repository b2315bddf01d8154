// Builds the package into dist: `npm run build`. Needs cargo with the target wasm32-unknown-unknown, and wasm-bindgen of the version
// that Cargo.lock has, in target/tools/bin or on the path.

import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const web = fileURLToPath(new URL("..", import.meta.url));
const root = join(web, "..");
const dist = join(web, "dist");
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const tools = join(root, "target/tools/bin/wasm-bindgen");
const wasmBindgen = existsSync(tools) ? tools : "wasm-bindgen";

const FEATURES = { simd: "+simd128", relaxed: "+simd128,+relaxed-simd" };

function run(program, args, env = {}) {
  execFileSync(program, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
}

mkdirSync(dist, { recursive: true });
const named = process.argv.slice(2);
for (const [name, features] of Object.entries(FEATURES).filter(([name]) => !named.length || named.includes(name))) {
  run("cargo", ["build", "--profile", "web", "-p", "tract-sparse-web", "--target", "wasm32-unknown-unknown"], {
    CARGO_TARGET_DIR: target, RUSTFLAGS: `-C target-feature=${features}`,
  });
  const built = join(target, "wasm32-unknown-unknown/web/tract_sparse_web.wasm");
  const folder = join(target, "web-package", name);
  rmSync(folder, { recursive: true, force: true });
  run(wasmBindgen, [built, "--target", "no-modules", "--no-typescript", "--out-dir", folder, "--out-name", name]);
  writeFileSync(join(dist, `${name}.js`), factory(readFileSync(join(folder, `${name}.js`), "utf8")));
  copyFileSync(join(folder, `${name}_bg.wasm`), join(dist, `${name}.wasm`));
}

/** wasm-bindgen's script as a function, so that every call makes bindings of their own: to one instance. */
function factory(script) {
  const [head, tail] = ["let wasm_bindgen = (", ")({ __proto__: null });"];
  const [from, to] = [script.indexOf(head), script.lastIndexOf(tail)];
  if (from < 0 || to < 0) throw new Error("wasm-bindgen writes another kind of script than this knows");
  return `export default ${script.slice(from + head.length, to)};\n`;
}
