#!/usr/bin/env bash
# The Python package: its wheel, built into target/wheels and tested. Says NOT RUN, with the reason, of what it has no tools for;
# `scripts/test.sh --install` puts maturin, pytest, numpy, zopflipy, onnx and onnxruntime into target/onnx-venv.
#
# Tests of tract_sparse.torch and of the training experiments run in target/onnx-venv or with Debian's Python, whichever has torch and
# pytest (Debian's packages are python3-torch, python3-pytest, python3-onnx, and dataset-fashion-mnist for the pictures), or with that
# which TRACT_SPARSE_TORCH_PYTHON names. TRACT_SPARSE_MODELS says where trained networks are.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -gt 0 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  case $1 in -h | --help) exit ;; *) printf "unknown argument '%s'\n" "$1" >&2; exit 2 ;; esac
fi

not_run() { printf 'NOT RUN: %s\n' "$*" >&2; }
has() { "$1" -c "import $2" >/dev/null 2>&1; }
venv=$PWD/target/onnx-venv package=$PWD/target/python-package

for name in maturin pytest numpy zopfli; do
  has "$venv/bin/python" $name || { not_run "the Python package: $name is not in $venv"; exit 0; }
done
if [ -z "${TRACT_SPARSE_MODELS:-}" ] && [ -d ../shared/models ]; then
  TRACT_SPARSE_MODELS=$(cd ../shared/models && pwd)
  export TRACT_SPARSE_MODELS
fi

# Built as the rest of the workspace is: nothing but the crate itself is compiled here. Rust's linker on this kind of machine keeps
# functions that are the same for several types once, and puts those that are alike side by side, which compress better.
smaller=()
if [ "$(uname -sm)" = "Linux x86_64" ]; then
  for flag in --icf=all -z,pack-relative-relocs --bp-compression-sort=both; do smaller+=("-Clink-arg=-Wl,$flag"); done
fi
rm -rf target/wheels "$package"
"$venv/bin/maturin" build --quiet --release --features warm --interpreter "$venv/bin/python" --out target/wheels \
  --compression-level 9 --manifest-path python/Cargo.toml -- "${smaller[@]}"
wheels=(target/wheels/*.whl)
wheel=${wheels[0]}
# The same archive in fewer bytes: deflate by a search for the shortest stream.
"$venv/bin/python" - "$wheel" <<'END'
import os, sys, zipfile, zopfli
wheel, smaller = sys.argv[1], sys.argv[1] + ".part"
with zipfile.ZipFile(wheel) as given, zopfli.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as packed:
    for entry in given.infolist():
        packed.writestr(entry, given.read(entry))
os.replace(smaller, wheel)
END
size=$(wc -c <"$wheel")
printf '%s: %s bytes\n' "$wheel" "$size"
[ "$size" -le 12000000 ] || { printf 'the wheel is larger than 12 MB\n' >&2; exit 1; }
"$venv/bin/pip" install -q --force-reinstall --no-deps "$wheel"
"$venv/bin/python" -m pytest -q -rs -p no:cacheprovider --ignore python/tests/test_torch.py python/tests

# One wheel is for every Python, and another one needs no installation.
"$venv/bin/pip" install -q --no-deps --target "$package" "$wheel"
for python in "${TRACT_SPARSE_TORCH_PYTHON:-}" "$venv/bin/python" /usr/bin/python3; do
  if [ -n "$python" ] && has "$python" torch && has "$python" pytest && has "$python" numpy; then
    PYTHONPATH=$package "$python" -m pytest -q -rs -p no:cacheprovider python/tests/test_torch.py experiments/tests
    exit
  fi
done
not_run "tests of tract_sparse.torch and of experiments: no Python with torch, pytest and numpy"
