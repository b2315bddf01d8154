//! Numbers that stand in more than one place agree.

use tract_sparse::TRACT_VERSION;

#[test]
fn the_version_of_tract_is_that_of_the_manifest_and_of_the_lock_file() {
    let (manifest, lock) = (include_str!("../../Cargo.toml"), include_str!("../../Cargo.lock"));
    for name in ["tract-core", "tract-onnx", "tract-linalg", "tract-nnef", "tract-pulse", "tract-tflite"] {
        let package = format!("name = \"{name}\"\nversion = \"{TRACT_VERSION}\"\n");
        assert!(lock.contains(&package), "{name} is not {TRACT_VERSION} in Cargo.lock");
        let line = manifest.lines().find(|line| line.starts_with(&format!("{name} ")));
        let wanted = format!("\"={TRACT_VERSION}\"");
        assert!(
            line.is_some_and(|line| line.contains(&wanted)),
            "{name} is not {TRACT_VERSION} in Cargo.toml"
        );
    }
}
