#!/usr/bin/env bash
# soak.sh [SECONDS]: four threads, changing shapes: memory flat, bits equal (tests/examples/soak.rs).
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo run --release --workspace --example soak -- "${1:-10}"
