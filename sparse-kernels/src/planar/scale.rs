//! Planes times a number each.

use crate::error::KernelError;
use crate::target::Target;
use crate::work::{Work, on};

/// Multiplies each of the planes in `data`, one after the other, by its number in `factors`.
///
/// # Errors
/// A length that is no multiple of the number of planes.
pub fn scale(target: Target, factors: &[f32], data: &mut [f32]) -> Result<(), KernelError> {
    if data.is_empty() {
        return Ok(());
    }
    if factors.is_empty() || !data.len().is_multiple_of(factors.len()) {
        let expected = data.len().next_multiple_of(factors.len().max(1));
        return Err(KernelError::Length { what: "planes", expected, got: data.len() });
    }
    on(target, Job { factors, data });
    Ok(())
}

struct Job<'a> {
    factors: &'a [f32],
    data: &'a mut [f32],
}

impl Work for Job<'_> {
    #[inline(always)]
    fn run(self) {
        let planes = self.data.chunks_exact_mut(self.data.len() / self.factors.len());
        for (plane, factor) in planes.zip(self.factors) {
            for value in plane {
                *value *= factor;
            }
        }
    }
}
