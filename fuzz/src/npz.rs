//! Arrays: memory asked for stays in proportion to the file.

use arrays::{Npz, npy};

/// What deflate makes of a byte at most, and the elements of a one-byte type as eight-byte ones.
const LARGEST: usize = 1032 * 8;

/// Runs one input.
pub fn run(bytes: &[u8]) {
    // an archive may claim 65535 entries
    crate::within((32 << 20) + 2 * LARGEST * bytes.len(), || {
        if let Ok(mut npz) = Npz::new(bytes.to_vec()) {
            for name in npz.names() {
                let _ = npz.any(&name);
            }
        }
    });
    crate::within((1 << 16) + 32 * bytes.len(), || {
        if let Ok(tensor) = npy(bytes) {
            assert!(tensor.len() <= bytes.len());
        }
    });
}
