#!/usr/bin/env bash
# What the NEON kernels would cost on three Arm cores: counts an operator's instructions under emulation and models
# their cycles. Nothing here is timed on an Arm core.
#
#   scripts/neon-cost.sh                       every operator and core; written to benches/results/neon-modelled.{md,json}
#   scripts/neon-cost.sh check [OPERATOR...]   compared with what is committed there: fails if anything is worse; all, or
#                                              pointwise, depthwise, spatial
#   scripts/neon-cost.sh network               MobileNet-v1, stock and sparse; written to benches/results/neon-network.md
#   scripts/neon-cost.sh half                  layers of MobileNet-v1 and ResNet-18 in f32 and f16; written to
#                                              benches/results/neon-half.md
#   scripts/neon-cost.sh int8                  the same in f32 and int8; written to benches/results/neon-int8.md
#   scripts/neon-cost.sh costs [KEY...]        cost tables of the three cores, or only the lines of them that begin so, for
#                                              example int8/ or pointwise/4x4; written to rewriter/src/costs/neon-*.txt
#   scripts/neon-cost.sh half-costs            lines half/spatial of these tables, for cores that have f16
#   scripts/neon-cost.sh 256x28 [SPARSITY...]  4x4 blocks of one pointwise layer, printed
#
# Needs the tool neon-cost: NEON_COST=/path/to/neon_cost.py, or ../shared/tools/neon-cost/neon_cost.py beside this
# project.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cross.sh

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

case ${1:-} in
  -h | --help) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit ;;
  network)
    cargo build --release -q --workspace --target $triple --bin neon-network
    set -- network neon-network ;;
  costs)
    cargo build --release -q --workspace --bin fit-costs
    cargo build --release -q --workspace --target $triple --bin fit-costs
    set -- costs fit-costs "${CARGO_TARGET_DIR:-target}/release/fit-costs" "${@:2}" ;;
  half-costs)
    cargo build --release -q --workspace --bin fit-costs
    cargo build --release -q -p tract-sparse-kernels --target $triple --example neon_operator
    set -- half-costs examples/neon_operator "${CARGO_TARGET_DIR:-target}/release/fit-costs" ;;
  "" | check | half | int8)
    cargo build --release -q -p tract-sparse-kernels --target $triple --example neon_operator
    set -- "${1:-all}" examples/neon_operator "${@:2}" ;;
  *)
    cargo build --release -q -p tract-sparse-kernels --target $triple --example neon_operator
    set -- layer examples/neon_operator "$@" ;;
esac
mode=$1 program=${CARGO_TARGET_DIR:-target}/$triple/release/$2
shift 2
exec python3 scripts/neon-table.py "$tool" "$mode" "$program" "$@"
