#!/usr/bin/env bash
# sanitize.sh [miri|asan|tsan|valgrind...]: the kernels and formats under tools that see what no test sees: Miri (scalar kernels
# and formats: undefined behaviour), the address sanitizer (all kernels of this machine), the thread sanitizer (work that is
# shared), valgrind's memcheck (without AVX-512, which it does not emulate; its tools for threads do not know the locks of Rust's
# standard library). All of them if nothing is named: some forty minutes. Needs nightly with miri and rust-src. docs/security.md has
# the last results.
set -uo pipefail
cd "$(dirname "$0")/.."

status=0
host=$(rustc -vV | sed -n 's/^host: //p')
nightly() { rustup run nightly rustc --version >/dev/null 2>&1; }
component() { rustup component list --toolchain nightly --installed 2>/dev/null | grep -q "^$1"; }
step() {
  local start=$SECONDS
  printf '\n=== %s ===\n' "$1"
  shift
  if "$@"; then printf -- '--- ok, %s s\n' "$((SECONDS - start))"; else status=1; printf -- '--- FAILED: %s\n' "$*"; fi
}
sanitizer() {
  # proptest's cases take ten times as long; the loops of fewer optimisations do what the others do, and are compiled in minutes
  RUSTFLAGS="-Zsanitizer=$1" PROPTEST_CASES="${PROPTEST_CASES:-64}" CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    CARGO_TARGET_DIR="target/$1" \
    cargo +nightly test --release -Zbuild-std --target "$host" -p tract-sparse-kernels --lib --tests
}
miri() {
  # isolation hides the processor; the scalar kernels are all that it runs, and those take minutes
  MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-deterministic-floats" PROPTEST_CASES="${PROPTEST_CASES:-2}" \
    CARGO_TARGET_DIR=target/miri cargo +nightly miri test -p tract-sparse-kernels --lib --test formats --test safety
}
grind() {
  local binary
  cargo test --release -p tract-sparse-kernels --tests --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | while read -r binary; do
    PROPTEST_CASES="${PROPTEST_CASES:-6}" valgrind --quiet --error-exitcode=9 "$binary" || exit 1
  done
}

for tool in ${*:-asan tsan valgrind miri}; do
  case $tool in
    miri) if nightly && component miri; then step "Miri" miri; else echo "NOT RUN: Miri: rustup +nightly component add miri" >&2; fi ;;
    asan | tsan)
      name=address; [ "$tool" = tsan ] && name=thread
      if nightly && component rust-src; then step "The $name sanitizer" sanitizer "$name"; else
        echo "NOT RUN: the $name sanitizer: rustup +nightly component add rust-src" >&2
      fi ;;
    valgrind) if command -v valgrind >/dev/null; then step "valgrind" grind; else echo "NOT RUN: valgrind is missing" >&2; fi ;;
    *) echo "unknown tool $tool" >&2; exit 2 ;;
  esac
done
exit $status
