# Sourced by the scripts that build and run programs for other machines: how Cargo links and runs them. Set here, and not
# in .cargo/config.toml, so that Cargo on such a machine itself is left alone.
if [ "$(uname -sm)" != "Linux aarch64" ]; then
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu ${CROSS_CPU:-max}"
fi
export CARGO_TARGET_WASM32_WASIP1_RUNNER=$PWD/sparse-kernels/wasm/run.mjs
