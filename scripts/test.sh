#!/usr/bin/env bash
# Everything that must hold: format, lints, documentation, the kernels on every target, whole models on this machine, the Python
# package, the npm package.
#
#   scripts/test.sh            runs what it has the tools for; says NOT RUN, with the reason, of the rest; on a terminal it
#                              first lists what is missing and asks whether to install it
#   scripts/test.sh --install  installs what is missing without asking: Debian's packages as root or by sudo, Rust's
#                              components by rustup, Python's packages into target/onnx-venv, npm's into web/node_modules
#
# Fails if anything fails. From nothing it takes about an hour on two cores.
set -uo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
install=ask
for argument in "$@"; do
  case $argument in
    --install) install=yes ;;
    -h | --help) usage; exit ;;
    *) printf "unknown argument '%s'\n" "$argument" >&2; usage >&2; exit 2 ;;
  esac
done
[ -t 0 ] || [ $install = yes ] || install=no

# A step's output is kept, too: what failed is said once more at the end, below the output of every later step.
steps=() failed=()
step() {
  local start=$SECONDS name=$1 kept
  kept=target/test-logs/${lane:-0}-$((${#steps[@]} + 1)).log
  printf '\n=== %s ===\n' "$name"
  shift
  mkdir -p target/test-logs
  if "$@" 2>&1 | if [ -z "${lane:-}" ]; then tee "$kept"; else cat >"$kept"; fi; then
    steps+=("passed: $name, $((SECONDS - start)) s")
  else
    steps+=("FAILED: $name, $((SECONDS - start)) s: $*")
    failed+=("$name" "$kept")
  fi
  [ -z "${lane:-}" ] || grep -E '^(passed|NOT RUN|FAILED): ' "$kept"
  printf -- '--- %s\n' "${steps[-1]}"
}
# beside LANE...: the steps of these functions, lane beside lane, where nothing is timed. Their output is in the logs.
beside() {
  local lane lanes=() logs=target/test-logs
  mkdir -p $logs
  for lane in "$@"; do
    (
      steps=() failed=()
      "$lane"
      printf '%s\n' "${steps[@]}" >"$logs/$lane.steps"
      printf '%s\n' "${failed[@]}" >"$logs/$lane.failed"
    ) &
    lanes+=($!)
  done
  wait "${lanes[@]}"
  for lane in "$@"; do
    mapfile -t -O ${#steps[@]} steps <"$logs/$lane.steps"
    mapfile -t -O ${#failed[@]} failed < <(grep . "$logs/$lane.failed")
  done
}
not_run() {
  printf 'NOT RUN: %s\n' "$*" >&2
  steps+=("NOT RUN: $*")
}
summary() {
  printf '\n=== Everything ===\n'
  printf '%s\n' "${steps[@]}"
  set -- "${failed[@]}"
  while [ $# -gt 0 ]; do
    printf '\n=== What %s says of its failure (all of it: %s) ===\n' "$1" "$2"
    # What tests and compilers print of failures, then the end.
    grep -nE -A12 "panicked at|^error|^failures:|FAILED|Traceback" "$2" | tail -n 80
    printf '...\n'
    tail -n 25 "$2"
    shift 2
  done
}

have() { command -v "$1" >/dev/null; }
component() { rustup component list --installed 2>/dev/null | grep -q "^$1"; }
target() { rustc --print target-libdir --target "$1" 2>/dev/null | xargs -r test -d; }
venv=target/onnx-venv
python_has() { "$venv/bin/python" -c "import $1" >/dev/null 2>&1; }

# What is missing, by the client that installs it.
debian=() components=() targets=() python=()
if have apt-get; then
  for pair in zsh:zsh fish:fish man:man-db chromium:chromium node:nodejs npm:npm qemu-aarch64:qemu-user \
    aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu; do
    have "${pair%%:*}" || debian+=("${pair##*:}")
  done
  [ -d /usr/aarch64-linux-gnu/include ] || debian+=(libc6-dev-arm64-cross)
  if have python3 && ! python3 -c 'import ensurepip' 2>/dev/null; then debian+=(python3-venv); fi
fi
if have rustup; then
  for name in rustfmt clippy; do component $name || components+=("$name"); done
  for name in aarch64-unknown-linux-gnu aarch64-apple-darwin wasm32-wasip1 wasm32-unknown-unknown; do target $name || targets+=("$name"); done
fi
for pair in onnx:onnx onnxruntime:onnxruntime numpy:numpy maturin:maturin pytest:pytest zopfli:zopflipy; do
  python_has "${pair%%:*}" || python+=("${pair##*:}")
done
have python3 || python=()

missing=("${debian[@]}" "${components[@]}" "${targets[@]}" "${python[@]}")
if [ ${#missing[@]} -gt 0 ] && [ $install != no ]; then
  [ ${#debian[@]} = 0 ] || printf "Debian's packages:        %s\n" "${debian[*]}"
  [ ${#components[@]} = 0 ] || printf "Rust's components:        %s\n" "${components[*]}"
  [ ${#targets[@]} = 0 ] || printf "Rust's standard library:  %s\n" "${targets[*]}"
  [ ${#python[@]} = 0 ] || printf "Python's packages:        %s (into %s)\n" "${python[*]}" "$venv"
  if [ $install = ask ]; then
    read -r -p "Install these? Without them, some tests are not run. [y/N] " answer
    case $answer in [yY]*) install=yes ;; *) install=no ;; esac
  fi
fi

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
mkdir -p target
if [ $install = yes ]; then
  log=target/install.log
  : >$log
  if [ ${#debian[@]} -gt 0 ]; then
    { as_root apt-get install -y "${debian[@]}" ||
      { as_root apt-get update && as_root apt-get install -y "${debian[@]}"; }; } >>$log 2>&1 ||
      not_run "what needs ${debian[*]}: apt-get failed, see $log"
  fi
  [ ${#components[@]} = 0 ] || rustup component add "${components[@]}" >>$log 2>&1 ||
    not_run "what needs ${components[*]}: rustup failed, see $log"
  [ ${#targets[@]} = 0 ] || rustup target add "${targets[@]}" >>$log 2>&1 ||
    not_run "what needs the targets ${targets[*]}: rustup failed, see $log"
  [ ${#python[@]} = 0 ] || { python3 -m venv $venv && $venv/bin/pip install -q "${python[@]}"; } >>$log 2>&1 ||
    not_run "what needs Python's ${python[*]}: pip failed, see $log"
  ! have npm || scripts/test-web.sh --install >>$log 2>&1 || not_run "the npm package: its tools were not installed, see $log"
fi

# The operator tests of the `onnx` package are single layers exported by PyTorch; pruned models run in onnxruntime, too.
if [ -z "${TRACT_SPARSE_ONNX_CASES:-}" ]; then
  if python_has onnx; then
    TRACT_SPARSE_ONNX_CASES=$("$venv/bin/python" -c \
      'import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), "backend/test/data"))')
    export TRACT_SPARSE_ONNX_CASES
  else
    not_run "operator tests of the onnx package: it is not in $venv"
  fi
fi
if [ -z "${TRACT_SPARSE_ORT_PYTHON:-}" ]; then
  if python_has onnxruntime; then
    export TRACT_SPARSE_ORT_PYTHON=$PWD/$venv/bin/python
  else
    not_run "pruned models in onnxruntime: it is not in $venv"
  fi
fi

if component rustfmt || have rustfmt; then step "Format" cargo fmt --all --check; else not_run "cargo fmt: no rustfmt"; fi
step "Whole models and command line" cargo test --release --workspace --exclude tract-sparse-kernels --no-fail-fast
if have python3; then
  step "What the README says is printed" scripts/as-newcomer.py --built
else
  not_run "scripts/as-newcomer.py --built: no python3"
fi
if [ -x target/tract-cli/bin/tract ]; then
  step "tract's command line beside ours" scripts/tract-transcript.py --check
else
  not_run "scripts/tract-transcript.py --check, which builds tract's command line first (ten minutes)"
fi
step "Python package" scripts/test-python.sh
step "npm package" scripts/test-web.sh
here() {
  step "Kernels on this machine" scripts/test-kernels.sh host avx512
  step "Kernels in WebAssembly" scripts/test-kernels.sh wasm
  if component clippy || have cargo-clippy; then
    step "Lints" cargo clippy --release --workspace --all-targets -- -D warnings
  else
    not_run "cargo clippy: it is not installed"
  fi
}
elsewhere() {
  step "Kernels on Arm" scripts/test-kernels.sh aarch64 apple
  step "Documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --quiet
}
beside here elsewhere
summary
if [ ${#failed[@]} = 0 ]; then echo; echo "All tests passed."; else echo; echo "SOMETHING FAILED: see above."; exit 1; fi
