#!/usr/bin/env bash
# Times every network of the speed table, stock and sparse in turn on one core, and writes a Markdown table:
#
#   scripts/bench-networks.sh [CORE] > benches/results/MACHINE.md
#
# Real models are taken from TRACT_SPARSE_MODELS, or shared/models beside the checkout; where there are none, the
# table says so.
set -euo pipefail
cd "$(dirname "$0")/.."
core=${1:-1}
models=${TRACT_SPARSE_MODELS:-../shared/models}
cargo build --release --workspace --bins --quiet
bin=target/release/tract-sparse
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

row() { # NAME FILE
  taskset -c "$core" "$bin" "$2" -O bench --against stock --max-time 2000 --json | python3 -c '
import json, sys
name, d = sys.argv[1], json.load(sys.stdin)
print("| {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} - {:.2f} | {} of {} | {:.0e} |".format(
    name, d["stock_ms"], d["sparse_ms"], d["ratio"], d["ratio_q1"], d["ratio_q3"],
    d["layers_sparse"], d["layers"], d["max_abs_diff"]))' "$1"
}

cpu=$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs)
target=$(TRACT_SPARSE_TARGET=auto "$bin" bench --help >/dev/null && grep -qw avx512f /proc/cpuinfo && echo avx512 || echo avx2)
echo "# Whole networks, one core"
echo
echo "CPU: $cpu ($target). Date: $(date -u +%F). Command: \`scripts/bench-networks.sh\`. Stock: tract 0.23.9, same file, same process,"
echo "in turn. Medians in milliseconds; the ratio is the median of paired ratios, with its quartiles."
echo
echo "| network | stock ms | sparse ms | ratio | quartiles | layers here | largest difference |"
echo "|---|---|---|---|---|---|---|"
while read -r name network options; do
  # shellcheck disable=SC2086
  "$bin" zoo "$network" $options -o "$folder/m.onnx" >/dev/null
  row "${name//_/ }" "$folder/m.onnx"
done <<'LIST'
mobilenet-v1_4x4_30_%_+_3:9 mobilenet-v1 --conv1x1 4x4:0.3 --dwconv3x3 3:9
mobilenet-v1_4x4_50_%_+_3:9 mobilenet-v1 --conv1x1 4x4:0.5 --dwconv3x3 3:9
mobilenet-v1_4x4_80_%_+_3:9 mobilenet-v1 --conv1x1 4x4:0.8 --dwconv3x3 3:9
mobilenet-v1_4x4_90_%_+_3:9 mobilenet-v1 --conv1x1 4x4:0.9 --dwconv3x3 3:9
mobilenet-v1_unstructured_80_% mobilenet-v1 --conv1x1 unstructured:0.8
mobilenet-v1_unstructured_90_% mobilenet-v1 --conv1x1 unstructured:0.9
mobilenet-v2_4x4_30_%_+_3:9 mobilenet-v2 --conv1x1 4x4:0.3 --dwconv3x3 3:9
mobilenet-v2_4x4_50_%_+_3:9 mobilenet-v2 --conv1x1 4x4:0.5 --dwconv3x3 3:9
mobilenet-v2_4x4_80_%_+_3:9 mobilenet-v2 --conv1x1 4x4:0.8 --dwconv3x3 3:9
mobilenet-v3-large_4x4_50_%_+_3:9 mobilenet-v3-large --conv1x1 4x4:0.5 --dwconv3x3 3:9
efficientnet-lite0_4x4_50_%_+_3:9 efficientnet-lite0 --conv1x1 4x4:0.5 --dwconv3x3 3:9
resnet-18_5:9 resnet-18 --conv3x3 5:9
resnet-18_5:9_+_50_%_connectivity resnet-18 --conv3x3 5:9:0.5
resnet-20_5:9 resnet-20 --conv3x3 5:9
resnet-20_5:9_+_50_%_connectivity resnet-20 --conv3x3 5:9:0.5
LIST
if [ -d "$models" ]; then
  for model in "$models"/*.onnx; do row "$(basename "$model" .onnx)" "$model"; done
else
  echo
  echo "Real models: not there ($models)."
fi
