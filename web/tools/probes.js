// Writes dist/probes.js: two loops of multiply-adds in registers, product and sum apart and fused. The package times them, to choose
// its build. Needs wasm-as of binaryen.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Sums enough for the latency of two multiply-adds a cycle, few enough for 16 registers. */
const SUMS = 12;

function text(multiplyAdd) {
  const sums = Array.from({ length: SUMS }, (_, at) => `$s${at}`);
  const total = sums.slice(1).reduce((sum, next) => `(f32x4.add ${sum} (local.get ${next}))`, `(local.get ${sums[0]})`);
  return `(module
    (func (export "run") (param $rounds i32) (result f32)
      (local $a v128) (local $b v128) ${sums.map((sum) => `(local ${sum} v128)`).join(" ")}
      (local.set $a (f32x4.splat (f32.const 0.999)))
      (local.set $b (f32x4.splat (f32.const 0.001)))
      (loop $again
        ${sums.map((sum) => `(local.set ${sum} ${multiplyAdd(sum)})`).join("\n        ")}
        (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
      (f32x4.extract_lane 0 ${total})))`;
}

const probes = {
  separate: text((sum) => `(f32x4.add (f32x4.mul (local.get ${sum}) (local.get $a)) (local.get $b))`),
  fused: text((sum) => `(f32x4.relaxed_madd (local.get ${sum}) (local.get $a) (local.get $b))`),
};

const folder = mkdtempSync(join(tmpdir(), "probes-"));
const assembler = fileURLToPath(new URL("../node_modules/.bin/wasm-as", import.meta.url));
const lines = Object.entries(probes).map(([name, wat]) => {
  const [from, to] = [join(folder, `${name}.wat`), join(folder, `${name}.wasm`)];
  writeFileSync(from, wat);
  execFileSync(assembler, ["--enable-simd", "--enable-relaxed-simd", from, "-o", to]);
  return `  ${name}: "${readFileSync(to).toString("base64")}",`;
});
rmSync(folder, { recursive: true });
writeFileSync(new URL("../dist/probes.js", import.meta.url), `export const probes = {\n${lines.join("\n")}\n};\n`);
