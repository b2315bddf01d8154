//! Inputs that have failed once, each with the right answer: see `tests/cases`.

mod answers;
mod bodies;
mod edges;
mod entries;
mod files;
mod hostile;
mod layers;
mod networks;
mod pruning;
mod words;

use std::path::{Path, PathBuf};

/// The folder of the cases.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// A case by its file name.
pub fn case(name: &str) -> PathBuf {
    folder().join(name)
}

/// Every file is named by a test: none lies there unused.
#[test]
fn every_case_is_tested() {
    let sources = [
        include_str!("bodies.rs"),
        include_str!("edges.rs"),
        include_str!("entries.rs"),
        include_str!("files.rs"),
        include_str!("hostile.rs"),
        include_str!("layers.rs"),
        include_str!("networks.rs"),
        include_str!("pruning.rs"),
        include_str!("words.rs"),
    ];
    let mut unused = vec![];
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".md") && !sources.iter().any(|text| text.contains(&name)) {
            unused.push(name);
        }
    }
    assert_eq!(unused, [""; 0]);
}
