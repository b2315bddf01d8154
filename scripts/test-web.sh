#!/usr/bin/env bash
# The npm package: both builds, made into web/dist, with the tests of Node and of a browser. Says NOT RUN, with the reason, of what it has
# no tools for; `scripts/test.sh --install` gets them: the target wasm32-unknown-unknown, the program wasm-bindgen of the version in
# Cargo.toml (into target/tools), what web/package.json names (into web/node_modules), and Debian's chromium.
#
#   scripts/test-web.sh             everything
#   scripts/test-web.sh --built     with what is in web/dist
#   scripts/test-web.sh --install   only gets what npm and cargo have
set -euo pipefail
cd "$(dirname "$0")/.."

not_run() { printf 'NOT RUN: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null; }
wanted=$(sed -n 's/^wasm-bindgen = "=\(.*\)"/\1/p' Cargo.toml)
bindgen_is_there() { [ "$({ target/tools/bin/wasm-bindgen --version || wasm-bindgen --version; } 2>/dev/null)" = "wasm-bindgen $wanted" ]; }

built=no
case ${1:-} in
  '') ;;
  --built) built=yes ;;
  --install)
    bindgen_is_there || cargo install --quiet wasm-bindgen-cli --version "$wanted" --root target/tools --target-dir target/tools-build
    rm -rf target/tools-build
    [ -d web/node_modules/typescript ] ||
      npm install --prefix web --no-package-lock --no-audit --no-fund --ignore-scripts --silent
    exit ;;
  -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit ;;
  *) printf "unknown argument '%s'\n" "$1" >&2; exit 2 ;;
esac

have node || { not_run "the npm package: no node"; exit 0; }
[ -d web/node_modules/typescript ] || { not_run "the npm package: scripts/test-web.sh --install gets what web/package.json names"; exit 0; }
if [ $built = no ]; then
  rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null | xargs -r test -d ||
    { not_run "the npm package: rustup target add wasm32-unknown-unknown"; exit 0; }
  bindgen_is_there || { not_run "the npm package: no wasm-bindgen $wanted; scripts/test-web.sh --install"; exit 0; }
  node web/tools/build.js
fi

cd web
node tools/sizes.js --check
node_modules/.bin/tsc --project tests
node --expose-gc --test tests/*.test.js
if have chromium; then
  node tests/browser.js
else
  not_run "the page in a browser: no chromium"
fi
