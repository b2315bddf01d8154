//! Every crate alone asks for the features that it gets in the whole workspace.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Crates that use tract, and so must not have it built again.
const CRATES: [&str; 12] = [
    "tract-sparse-arrays",
    "benches",
    "tract-sparse-cli",
    "tract-sparse-figures",
    "fuzz",
    "tract-sparse-onnx-file",
    "tract-sparse-prune",
    "tract-sparse-rewriter",
    "tract-sparse-ops",
    "tests",
    "tract-sparse",
    "tract-sparse-zoo",
];

/// Packages from elsewhere with their features, of what the options of `cargo tree` select.
fn packages(selected: &[&str]) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p} {f}"])
        .args(selected)
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{selected:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // those of the workspace have a path
    let lines = text.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.contains(" (/"));
    lines.filter(|line| !line.is_empty()).map(String::from).collect()
}

/// What is built for tests of the whole workspace.
fn all() -> BTreeSet<String> {
    let all = packages(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(all.iter().any(|package| package.starts_with("tract-core ")), "{all:?}");
    all
}

#[test]
fn a_crate_alone_is_built_as_with_all_others() {
    let all = all();
    for name in CRATES {
        let alone = packages(&["-p", name, "--edges", "normal,build,dev"]);
        let other: Vec<_> = alone.difference(&all).collect();
        assert!(
            other.is_empty(),
            "cargo test -p {name} builds these once more, see features/Cargo.toml: {other:#?}"
        );
    }
}

#[test]
fn the_wheel_is_built_as_all_others_are() {
    let wheel = ["-p", "tract-sparse-python", "--features", "warm", "--edges", "normal,build"];
    let (all, wheel) = (all(), packages(&wheel));
    let other: Vec<_> = wheel.difference(&all).collect();
    assert!(other.is_empty(), "the wheel builds these once more, see features/Cargo.toml: {other:#?}");
}
