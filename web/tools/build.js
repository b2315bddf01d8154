// Builds the package into dist: `npm run build`. Needs cargo with the target wasm32-unknown-unknown, and wasm-bindgen of the version
// that Cargo.lock has, in target/tools/bin or on the path.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { keepNaN } from "../../sparse-kernels/wasm/relaxed.mjs";
import { ordered } from "./order.js";

const web = fileURLToPath(new URL("..", import.meta.url));
const root = join(web, "..");
const dist = join(web, "dist");
const cargoHome = process.env.CARGO_HOME ?? join(homedir(), ".cargo");
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const tools = join(root, "target/tools/bin/wasm-bindgen");
const wasmBindgen = existsSync(tools) ? tools : "wasm-bindgen";

const FEATURES = { simd: "+simd128", relaxed: "+simd128,+relaxed-simd" };

/** Runs a program to its end; what it prints is printed. */
function run(program, args, env = {}) {
  return new Promise((done, failed) => {
    const child = spawn(program, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
    child.on("error", failed);
    child.on("exit", (code, signal) => (code === 0 ? done() : failed(new Error(`${program} ended with ${code ?? signal}`))));
  });
}

/** One build. Half of it is one long step on one core, so that builds run side by side, each in a folder of cargo's of its own. */
async function build(name, features) {
  const folder = join(target, "web", name);
  await run("cargo", ["build", "--profile", "web", "-p", "tract-sparse-web", "--target", "wasm32-unknown-unknown"], {
    CARGO_TARGET_DIR: folder, RUSTC_WRAPPER: join(web, "tools/rustc.sh"),
    // cargo does not see what the wrapper changes: the name makes it compile again what was compiled without
    // panics name files: without the folder in which this machine keeps crates
    CARGO_ENCODED_RUSTFLAGS: ["-C", `target-feature=${features}`, "--cfg", "small", `--remap-path-prefix=${join(cargoHome, "registry/src")}=crates`].join("\x1f"),
  });
  const built = join(folder, "wasm32-unknown-unknown/web/tract_sparse_web.wasm");
  const bound = join(folder, "package");
  rmSync(bound, { recursive: true, force: true });
  await run(wasmBindgen, [built, "--target", "no-modules", "--no-typescript", "--out-dir", bound, "--out-name", name]);
  writeFileSync(join(dist, `${name}.js`), factory(readFileSync(join(bound, `${name}.js`), "utf8")));
  const module = readFileSync(join(bound, `${name}_bg.wasm`));
  keepNaN(module);
  writeFileSync(join(dist, `${name}.wasm`), ordered(module));
}

mkdirSync(dist, { recursive: true });
const named = process.argv.slice(2);
const wanted = Object.entries(FEATURES).filter(([name]) => !named.length || named.includes(name));
const ended = await Promise.allSettled(wanted.map(([name, features]) => build(name, features)));
for (const { reason } of ended.filter(({ status }) => status === "rejected")) {
  console.error(reason.message);
  process.exitCode = 1;
}

/** wasm-bindgen's script as a function, so that every call makes bindings of their own: to one instance. */
function factory(script) {
  const [head, tail] = ["let wasm_bindgen = (", ")({ __proto__: null });"];
  const [from, to] = [script.indexOf(head), script.lastIndexOf(tail)];
  if (from < 0 || to < 0) throw new Error("wasm-bindgen writes another kind of script than this knows");
  return `export default ${script.slice(from + head.length, to)};\n`;
}
