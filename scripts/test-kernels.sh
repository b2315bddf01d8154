#!/usr/bin/env bash
# Runs the tests of sparse-kernels on every kind of machine that has kernels: this one, aarch64 (two emulated cores),
# WebAssembly with and without SIMD, and AVX-512 in an interpreter; and checks that they compile for Apple's aarch64. Says
# what it cannot run, and what to install for it (`scripts/test.sh --install` does); fails if any test fails.
#
#   scripts/test-kernels.sh            everything
#   scripts/test-kernels.sh host wasm  only these: host, aarch64, apple (compiles), wasm, avx512
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/cross.sh

failed=() skipped=() passed=()
heading() { printf '\n=== %s ===\n' "$*"; }
skip() { printf 'NOT RUN: %s: %s\n' "$1" "$2" >&2; skipped+=("$1 ($2)"); }
run() {
  local name=$1 start=$SECONDS
  shift
  heading "$name"
  if "$@"; then passed+=("$name, $((SECONDS - start)) s"); else failed+=("$name"); fi
}
have() { command -v "$1" >/dev/null; }

# rust_target TRIPLE: its standard library is installed.
rust_target() { rustc --print target-libdir --target "$1" 2>/dev/null | xargs -r test -d; }

# Compiling the kernels is what takes the time, and unit tests want them compiled once more, for they are inside of the crate. So what
# runs kernels is tested from outside, in a release, and unit tests run without optimisation, which compiles in a third of the time.
some_tests() { cargo test --release -q -p tract-sparse-kernels --test "$@"; }
kernels_test() { some_tests '*' "$@"; }
units_test() { cargo test -q -p tract-sparse-kernels --lib "$@"; }

host() {
  run "host ($(uname -m))" kernels_test
  run "host, examples in the documentation" cargo test --release -q -p tract-sparse-kernels --doc
  # Arithmetic that wraps around panics in what users build without optimisation; the loops are slow then.
  PROPTEST_CASES=4 run "host, debug" units_test --test '*'
}

aarch64() {
  local triple=aarch64-unknown-linux-gnu
  if [ "$(uname -sm)" = "Linux aarch64" ]; then heading "aarch64: this machine is one, tested above"; return; fi
  if ! rust_target $triple; then skip aarch64 "rustup target add $triple"; return; fi
  if ! have aarch64-linux-gnu-gcc; then
    skip aarch64 "no aarch64-linux-gnu-gcc: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"; return
  fi
  if ! have qemu-aarch64; then
    skip aarch64 "no qemu-aarch64: apt-get install qemu-user"; return
  fi
  # Cargo builds for one machine at a time in a folder; this one is tested beside the others.
  local -x CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/emulated
  # An emulator takes minutes for loops of plain Rust, which are the same on every machine: only NEON's kernels are run, on a part of the
  # cases (all: PROPTEST_CASES=1000). A core without half precision and dot products is to meet no instruction that it lacks.
  local -x SPARSE_KERNELS_EMULATED=qemu
  local all=${PROPTEST_CASES:-40} few=${PROPTEST_CASES:-10}
  CROSS_CPU=max
  . scripts/cross.sh
  PROPTEST_CASES=$all run "aarch64, emulated max" kernels_test --target $triple
  PROPTEST_CASES=$all run "aarch64, emulated max, unit tests" units_test --target $triple
  CROSS_CPU=cortex-a53
  . scripts/cross.sh
  PROPTEST_CASES=$few run "aarch64, emulated cortex-a53" some_tests '[pqr]*' --test depthwise --test spatial --target $triple
  # The types of half precision that cores have: the most, f16 alone, none.
  local half
  for half in "max f16 bf16" "cortex-a76 f16" "cortex-a72" "cortex-a53"; do
    CROSS_CPU=${half%% *}
    . scripts/cross.sh
    export SPARSE_KERNELS_HALF=${half#"$CROSS_CPU"}
    run "aarch64, half precision of $CROSS_CPU" some_tests pairs --target $triple the_core_has
    unset SPARSE_KERNELS_HALF
  done
  CROSS_CPU=cortex-a76
  . scripts/cross.sh
  PROPTEST_CASES=$few run "aarch64, pairs on cortex-a76" some_tests pairs --target $triple
  if ! have python3; then skip "aarch64, loops as in docs/neon.md" "no python3: apt-get install python3"; return; fi
  schedules() {
    cargo build --release -q -p tract-sparse-kernels --target $triple --example neon_operator &&
      scripts/neon-schedule.py check
  }
  run "aarch64, loops as in docs/neon.md" schedules
}

# There is nothing to run it on: the check is that it compiles.
apple() {
  local triple=aarch64-apple-darwin
  if ! rust_target $triple; then skip "aarch64 macOS" "rustup target add $triple"; return; fi
  run "aarch64 macOS, compiles" cargo check --release -q -p tract-sparse-kernels --target $triple
}

wasm() {
  if ! rust_target wasm32-wasip1; then skip wasm "rustup target add wasm32-wasip1"; return; fi
  if ! have node; then skip wasm "no node: apt-get install nodejs"; return; fi
  RUSTFLAGS="-C target-feature=+simd128" run "WebAssembly with simd128" kernels_test --target wasm32-wasip1
  RUSTFLAGS="-C target-feature=+simd128" run "WebAssembly with simd128, unit tests" units_test --target wasm32-wasip1
  skip "WebAssembly with relaxed SIMD" "scalar choices that are put into vectors may take the other side of a NaN there: see docs/web.md"
  RUSTFLAGS="-C target-feature=-simd128" run "WebAssembly without SIMD" kernels_test --target wasm32-wasip1
}

# Machines with AVX-512 have tested it in `host`.
avx512() {
  if [ "$(uname -m)" != x86_64 ]; then skip AVX-512 "not an x86-64 machine"; return; fi
  if grep -qw avx512f /proc/cpuinfo; then heading "AVX-512: this machine has it, tested above"; return; fi
  if ! cargo +nightly miri --version >/dev/null 2>&1; then
    skip AVX-512 "this machine has none, and no Miri to interpret it: rustup toolchain install nightly --component miri rust-src"
    return
  fi
  skip "AVX-512, spatial kernels" "this machine has none, and interpreting their tests takes longer than all others together"
  RUSTFLAGS="-C target-feature=+avx512f,+avx2,+fma" MIRIFLAGS="-Zmiri-disable-isolation" PROPTEST_CASES=4 \
    run "AVX-512, interpreted by Miri" \
    cargo +nightly miri test -q -p tract-sparse-kernels "${miri_tests[@]}"
}

# Every test file that runs kernels; the formats have no code of their own for a target.
miri_tests=()
for file in sparse-kernels/tests/*.rs; do
  name=$(basename "$file" .rs)
  case $name in formats | spatial) ;; *) miri_tests+=(--test "$name") ;; esac
done

[ $# -gt 0 ] || set -- host aarch64 apple wasm avx512
for part in "$@"; do
  case $part in
    host | aarch64 | apple | wasm | avx512) $part ;;
    *) echo "unknown part '$part', expected host, aarch64, apple, wasm or avx512" >&2; exit 2 ;;
  esac
done

heading "sparse-kernels"
[ ${#passed[@]} = 0 ] || printf 'passed: %s\n' "${passed[@]}"
[ ${#skipped[@]} = 0 ] || printf 'NOT RUN: %s\n' "${skipped[@]}"
[ ${#failed[@]} = 0 ] || { printf 'FAILED: %s\n' "${failed[@]}"; exit 1; }
