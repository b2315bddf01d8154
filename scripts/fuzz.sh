#!/usr/bin/env bash
# fuzz.sh [SECONDS] [TARGET...]: hostile input for everything that reads, each target for so many seconds (10), one after the
# other. Grows fuzz/corpus from fuzz/seeds; what is found lies in fuzz/artifacts/TARGET. Needs nightly and cargo-fuzz.
# With SANITIZER=address (memory, thread) under that sanitizer; kernels take half an hour to compile for it.
set -uo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
shift || true
targets=${*:-kernels formats compact npz recipe nnef onnx}

not_run() { echo "NOT RUN: fuzz targets: $1" >&2; exit 0; }
rustup run nightly rustc --version >/dev/null 2>&1 || not_run "rustup toolchain install nightly"
cargo +nightly fuzz --version >/dev/null 2>&1 || not_run "cargo install cargo-fuzz"

# A ration of 2 GB for the process, 1 GB for one allocation; an input has twenty seconds.
limits="-rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=20"
status=0
for target in $targets; do
  mkdir -p "fuzz/corpus/$target" fuzz/target
  log=fuzz/target/$target.log
  if [ "$target" = onnx ]; then find tests/cases -name '*.onnx' -size -6k -exec cp -n {} fuzz/corpus/onnx/ \;; fi
  # shellcheck disable=SC2086 # limits are words
  if cargo +nightly fuzz run --features libfuzzer -s "${SANITIZER:-none}" --codegen-units 16 "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    $limits -max_total_time="$seconds" -print_final_stats=1 >"$log" 2>&1; then
    echo "$target: $(grep -o 'number_of_executed_units: .*' "$log" || echo 'no statistics')"
  else
    status=1
    echo "$target: FAILED, see $log" >&2
    tail -30 "$log" >&2
  fi
done
exit $status
