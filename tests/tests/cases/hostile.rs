//! Files that lie: an error that says so, and no memory that the file does not justify.

use crate::case;
use anyhow::Result;
use tract_sparse::prelude::*;

/// Reads an archive as the command line does.
fn load(name: &str) -> Result<TypedModel> {
    tract_sparse::nnef().model_for_path(case(name))
}

#[test]
fn sizes_that_wrap_around_are_an_error() {
    // 2^48 rows of 65536 taps
    let error = format!("{:#}", load("evil_taps.nnef.tar").unwrap_err());
    assert!(error.contains("has no kernels of 65536 taps"), "{error}");
}

#[test]
fn a_bitmap_of_zeros_is_no_reason_for_gigabytes() {
    let error = format!("{:#}", load("bomb.nnef.tgz").unwrap_err());
    assert!(error.contains("bytes of weights are more than 125000 stored bytes justify"), "{error}");
}
