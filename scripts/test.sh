#!/usr/bin/env bash
# Everything that must hold: format, lints, documentation, the kernels on every target, whole models on this machine.
# Installs what it needs where it can; says what it cannot run; fails if anything fails.
set -uo pipefail
cd "$(dirname "$0")/.."

status=0
step() {
  local start=$SECONDS
  printf '\n=== %s ===\n' "$1"
  shift
  if "$@"; then printf -- '--- ok, %s s\n' "$((SECONDS - start))"; else status=1; printf -- '--- FAILED: %s\n' "$*"; fi
}

# The operator tests of the `onnx` Python package: single layers exported by PyTorch.
onnx_cases() {
  if [ -n "${TRACT_SPARSE_ONNX_CASES:-}" ]; then return; fi
  local venv=target/onnx-venv find='import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), "backend/test/data"))'
  if ! "$venv/bin/python" -c "$find" >/dev/null 2>&1; then
    python3 -m venv "$venv" && "$venv/bin/pip" install -q onnx || {
      echo "NOT RUN: operator tests of the onnx package: pip install onnx failed" >&2
      return
    }
  fi
  TRACT_SPARSE_ONNX_CASES=$("$venv/bin/python" -c "$find")
  export TRACT_SPARSE_ONNX_CASES
}

# Shells and man, which the command line's completions and manual pages are checked with; tests say NOT RUN without them.
shells() {
  for tool in zsh fish man; do
    command -v "$tool" >/dev/null || missing+=" $tool"
  done
  if [ -n "${missing:-}" ]; then
    { apt-get install -y ${missing/ man/ man-db} || sudo -n apt-get install -y ${missing/ man/ man-db}; } >/dev/null 2>&1
  fi
}

# A browser, which the page of inspect --html is opened in; its test says NOT RUN without one.
browser() {
  command -v chromium >/dev/null ||
    { apt-get install -y chromium || sudo -n apt-get install -y chromium; } >/dev/null 2>&1
}

# Pruned models are run in onnxruntime, too.
onnxruntime() {
  if [ -n "${TRACT_SPARSE_ORT_PYTHON:-}" ]; then return; fi
  local venv=target/onnx-venv
  if ! "$venv/bin/python" -c "import onnxruntime, numpy" >/dev/null 2>&1; then
    python3 -m venv "$venv" && "$venv/bin/pip" install -q onnxruntime numpy || {
      echo "NOT RUN: pruned models in onnxruntime: pip install onnxruntime failed" >&2
      return
    }
  fi
  TRACT_SPARSE_ORT_PYTHON=$PWD/$venv/bin/python
  export TRACT_SPARSE_ORT_PYTHON
}

have() { rustup component list --installed 2>/dev/null | grep -q "^$1" || rustup component add "$1" >/dev/null 2>&1; }

if have rustfmt; then step "Format" cargo fmt --all --check; else echo "NOT RUN: cargo fmt is missing" >&2; fi
mkdir -p target
onnx_cases
shells
browser
onnxruntime
step "Whole models and command line" cargo test --release --workspace --exclude sparse-kernels
if [ -x target/tract-cli/bin/tract ]; then
  step "tract's command line beside ours" scripts/tract-transcript.py --check
else
  echo "NOT RUN: scripts/tract-transcript.py --check, which builds tract's command line first (ten minutes)" >&2
fi
if have clippy; then
  step "Lints" cargo clippy --release --workspace --all-targets -- -D warnings
else
  echo "NOT RUN: cargo clippy is missing" >&2
fi
step "Documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --quiet
step "Kernels on every target" scripts/test-kernels.sh
if [ $status = 0 ]; then echo; echo "All tests passed."; else echo; echo "SOMETHING FAILED: see above."; fi
exit $status
