//! Where the trained networks are that measurements and tests are made on.

use std::path::{Path, PathBuf};

/// The folder of real models, if it is there: `TRACT_SPARSE_MODELS`, or `shared/models` beside the checkout.
pub fn models_dir() -> Option<PathBuf> {
    let dir = match std::env::var_os("TRACT_SPARSE_MODELS") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models"),
    };
    dir.is_dir().then_some(dir)
}
