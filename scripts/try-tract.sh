#!/usr/bin/env bash
# Tries another version of tract in a copy of this checkout and reports what breaks; the checkout itself stays as it is.
#
#   scripts/try-tract.sh 0.23.10          checks that everything compiles, then runs the tests
#   scripts/try-tract.sh 0.23.10 --check  only checks that it compiles
#
# The copy and what is built stay in target/try-tract, so that a second try is faster. Fails if anything breaks.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; }
version='' tests=yes
for argument in "$@"; do
  case $argument in
    -h | --help) usage; exit ;;
    --check) tests=no ;;
    -*) printf "unknown option '%s'\n" "$argument" >&2; usage >&2; exit 2 ;;
    *) version=$argument ;;
  esac
done
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+ ]] || { echo "no version of tract, as in 0.23.10" >&2; usage >&2; exit 2; }
current=$(sed -n 's/^tract-core = "=\(.*\)"$/\1/p' Cargo.toml)
[ -n "$current" ] || { echo "Cargo.toml: no line tract-core = \"=VERSION\"" >&2; exit 1; }

copy=target/try-tract/checkout
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$copy"
export CARGO_TARGET_DIR=$PWD/target/try-tract/target
log=$PWD/target/try-tract/log
cd "$copy"

# Cargo.toml is the one place that says which tract is used; the constant is what the library answers when it is asked.
sed -i.old "s/\"=${current//./\\.}\"/\"=$version\"/" Cargo.toml
sed -i.old "s/\(TRACT_VERSION: &str = \)\"${current//./\\.}\"/\1\"$version\"/" rewriter/src/lib.rs
rm Cargo.toml.old rewriter/src/lib.rs.old

step() {
  local name=$1 start=$SECONDS
  shift
  printf '=== tract %s: %s ===\n' "$version" "$name"
  if "$@" >"$log" 2>&1; then printf -- '--- ok, %s s\n' "$((SECONDS - start))"; return 0; fi
  printf -- '--- BREAKS (all of it is in %s)\n' "$log"
  return 1
}

# The first lines of what broke, by file.
errors() {
  grep -A1 -E '^error' "$log" | grep -v '^--$' | head -60
  echo "errors by file:"
  grep -E '^ +--> ' "$log" | sed 's/^ *--> //; s/:.*//' | sort | uniq -c | sort -rn | head -30
}

step "the versions of all crates fit together" cargo update --workspace || { tail -20 "$log"; exit 1; }
step "everything compiles" cargo check --release --workspace --all-targets --keep-going || { errors; exit 1; }
[ $tests = yes ] || exit 0
step "the tests pass" cargo test --release --workspace --exclude tract-sparse-kernels --no-fail-fast ||
  { grep -E '^(test .* FAILED|---- |error: )|panicked at' "$log" | head -60; exit 1; }
echo "Nothing breaks. To follow: the versions in Cargo.toml, TRACT_VERSION in rewriter/src/lib.rs, the table in README.md."
