#!/usr/bin/env bash
# What the NEON kernels would cost on three Arm cores: counts a pointwise layer's instructions under emulation and models
# their cycles. Nothing here is timed on an Arm core.
#
#   scripts/neon-cost.sh                       every layer, sparsity and core; also written to benches/results/neon-modelled.md
#   scripts/neon-cost.sh 256x28 [SPARSITY...]  these only, printed
#
# Needs the tool neon-cost: NEON_COST=/path/to/neon_cost.py, or ../shared/tools/neon-cost/neon_cost.py beside this
# project. NEON_COST_TARGETS="neon neon neon" models other kernels, in the order a53, a55, a76.
set -euo pipefail
cd "$(dirname "$0")/.."

missing() { printf 'NOT RUN: %s\n' "$*" >&2; exit 3; }
tool=${NEON_COST:-../shared/tools/neon-cost/neon_cost.py}
[ -f "$tool" ] || missing "no neon-cost at $tool: set NEON_COST to its neon_cost.py"
command -v python3 >/dev/null || missing "no python3: apt-get install python3"
command -v aarch64-linux-gnu-gcc >/dev/null ||
  missing "no linker for aarch64: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
command -v qemu-aarch64 >/dev/null || [ -n "${NEON_COST_QEMU:-}" ] || [ -d ~/.cache/neon-cost/root ] ||
  missing "no qemu-aarch64 with plugins: apt-get install qemu-user (not qemu-user-static), or run get-tools.sh beside neon-cost"
compgen -G '/usr/lib/llvm-*/bin/llvm-mca' >/dev/null || command -v llvm-mca >/dev/null ||
  [ -n "${NEON_COST_LLVM_BIN:-}" ] || [ -d ~/.cache/neon-cost/root ] ||
  missing "no llvm-mca: apt-get install llvm-19, or run get-tools.sh beside neon-cost"
triple=aarch64-unknown-linux-gnu
rustc --print target-libdir --target $triple 2>/dev/null | xargs -r test -d || rustup target add $triple ||
  missing "no Rust standard library for $triple: rustup target add $triple"

cargo build --release -q -p sparse-kernels --target $triple --example neon_pointwise
program=${CARGO_TARGET_DIR:-target}/$triple/release/examples/neon_pointwise
exec python3 scripts/neon-table.py "$tool" "$program" "$@"
