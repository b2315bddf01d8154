//! Seeded data and comparison with the oracle, shared by the kernel tests.
#![allow(dead_code)]

use sparse_kernels::parallel::Parallel;

/// Two real threads, to see that splitting changes nothing; two halves one after the other where there are
/// none.
pub struct TwoThreads;

impl Parallel for TwoThreads {
    fn threads(&self) -> usize {
        2
    }

    fn for_each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if cfg!(target_family = "wasm") {
            return (0..tasks).rev().for_each(task);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| (0..tasks / 2).for_each(task));
            (tasks / 2..tasks).for_each(task);
        });
    }
}

/// A small linear congruential generator: tests need repeatable numbers, not good ones.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Uniform in -1..1.
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// True with probability `p`.
    pub fn coin(&mut self, p: f64) -> bool {
        (self.next() as f64 + 1.0) / 2.0 < p
    }

    pub fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }
}

/// Fails unless `got` is `expected` to rounding.
///
/// The oracle sums in f64 and rounds once. A kernel sums `terms` products in f32, each at most 1 in size:
/// every addition rounds by at most half a unit in the last place of a partial sum, which stays below
/// `terms`; in practice errors grow with the square root. `terms * 2^-24 * 4` is safely above what is seen
/// and far below any real mistake, which loses or doubles a whole product.
pub fn assert_close(what: &str, got: &[f32], expected: &[f32], terms: usize) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let tolerance = (terms as f32 + 8.0) * 4.0 * f32::EPSILON / 2.0;
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let same = (g.is_nan() && e.is_nan()) || g == e || (g - e).abs() <= tolerance * e.abs().max(1.0);
        assert!(same, "{what}: element {i} is {g}, the oracle says {e} (tolerance {tolerance})");
    }
}
