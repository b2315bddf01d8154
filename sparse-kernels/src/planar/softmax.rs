//! `exp(x) / sum(exp(x))` along an axis.
//!
//! Every pass runs along memory, whatever the axis: the exponentials, which are nearly all of the work, are
//! taken of all values in one sweep.

use super::fold_rows;
use crate::error::KernelError;
use crate::exp::exp;
use crate::scratch;
use crate::target::Target;
use crate::work::{Work, on};

/// Softmax in place over the middle axis of `data`, `[outer][len][inner]`. An axis with a NaN, or of nothing
/// but negative infinities, becomes NaN.
///
/// # Errors
/// A length that is no multiple of `len * inner`.
pub fn softmax(target: Target, len: usize, inner: usize, data: &mut [f32]) -> Result<(), KernelError> {
    let block =
        len.checked_mul(inner).ok_or_else(|| KernelError::Geometry("a softmax is too large".into()))?;
    if block == 0 || !data.len().is_multiple_of(block) {
        if data.is_empty() {
            return Ok(());
        }
        let expected = data.len().next_multiple_of(block.max(1));
        return Err(KernelError::Length { what: "softmax", expected, got: data.len() });
    }
    scratch::with(inner, |line| on(target, Job { len, inner, data, line }));
    Ok(())
}

struct Job<'a> {
    len: usize,
    inner: usize,
    data: &'a mut [f32],
    /// A value for every position of the inner axis.
    line: &'a mut [f32],
}

/// Values of blocks that are gone through together, so that they stay in the first-level cache.
const TOGETHER: usize = 4096;

impl Work for Job<'_> {
    #[inline(always)]
    fn run(self) {
        let Job { len, inner, data, line } = self;
        if inner > 1 {
            for block in data.chunks_exact_mut(len * inner) {
                let row = |at: usize| &block[at * inner..][..inner];
                fold_rows(line, len, row, f32::NEG_INFINITY, |most, x| if most < x { x } else { most });
                for row in block.chunks_exact_mut(inner) {
                    for (x, most) in row.iter_mut().zip(&*line) {
                        *x = exp::<false>(*x - most);
                    }
                }
                line.fill(0.0);
                for row in block.chunks_exact(inner) {
                    for (sum, x) in line.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
                for sum in line.iter_mut() {
                    *sum = sum.recip();
                }
                for row in block.chunks_exact_mut(inner) {
                    for (x, scale) in row.iter_mut().zip(&*line) {
                        *x *= scale;
                    }
                }
            }
            return;
        }
        for blocks in data.chunks_mut(len * (TOGETHER / len).max(1)) {
            for block in blocks.chunks_exact_mut(len) {
                let most = block.iter().fold(f32::NEG_INFINITY, |most, x| if most < *x { *x } else { most });
                for x in block {
                    *x -= most;
                }
            }
            for x in blocks.iter_mut() {
                *x = exp::<false>(*x);
            }
            for block in blocks.chunks_exact_mut(len) {
                let scale = block.iter().sum::<f32>().recip();
                for x in block {
                    *x *= scale;
                }
            }
        }
    }
}
