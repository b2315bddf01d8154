//! Seeded data and comparison with the oracle, shared by the kernel tests.
#![allow(dead_code)]

pub use noise::Noise;
use proptest::prelude::ProptestConfig;
use sparse_kernels::depthwise::DepthwiseKernel;
use sparse_kernels::pointwise::PointwiseKernel;
use sparse_kernels::prelude::*;
use sparse_kernels::spatial::SpatialKernel;

/// So many random cases, or as many as `PROPTEST_CASES` says, where that is fewer: code that is interpreted,
/// emulated or not optimised is slow.
pub fn cases(most: u32) -> ProptestConfig {
    let cases = asked_for().map_or(most, |asked| asked.min(most));
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// All cases of a list, or, where `PROPTEST_CASES` asks for less than fifty, every seventh and the last one:
/// sizes of tiles have no factor of seven, so that every kind of leftover is among them.
pub fn sampled<T>(cases: impl IntoIterator<Item = T>) -> Vec<T> {
    let cases: Vec<T> = cases.into_iter().collect();
    let (few, last) = (asked_for().is_some_and(|asked| asked < 50), cases.len().saturating_sub(1));
    let wanted = |i: usize| !few || i.is_multiple_of(7) || i == last;
    cases.into_iter().enumerate().filter(|(i, _)| wanted(*i)).map(|(_, case)| case).collect()
}

fn asked_for() -> Option<u32> {
    std::env::var("PROPTEST_CASES").ok()?.parse().ok()
}

/// Whether kernels of an instruction set are tested. Where code is emulated, which the script that does so says in
/// `SPARSE_KERNELS_EMULATED`, only the best one's are: plain Rust takes most of the time there, and is tested where it runs fast.
pub fn tested(isa: Isa) -> bool {
    std::env::var_os("SPARSE_KERNELS_EMULATED").is_none() || isa == Target::detect().isa()
}

/// The targets that are [`tested`].
pub fn targets() -> impl Iterator<Item = Target> {
    Target::available().into_iter().filter(|target| tested(target.isa()))
}

/// Half precision in every type, of targets that are [`tested`].
pub fn halves() -> impl Iterator<Item = Half> {
    Half::available().into_iter().filter(|half| tested(half.target().isa()))
}

/// Int8 on targets that are [`tested`].
pub fn int8() -> impl Iterator<Item = Int8> {
    Int8::available().into_iter().filter(|int8| tested(int8.target().isa()))
}

/// Kernels of the table that are [`tested`].
macro_rules! kernels {
    ($($name:ident, $available:ident, $kernel:ty;)*) => {$(
        pub fn $name() -> impl Iterator<Item = &'static $kernel> {
            table::$available().filter(|kernel| tested(kernel.info().isa))
        }
    )*};
}
kernels! {
    pointwise, pointwise_available, PointwiseKernel;
    pointwise_int8, pointwise_int8_available, PointwiseKernel;
    depthwise, depthwise_available, DepthwiseKernel;
    depthwise_half, depthwise_half_available, DepthwiseKernel;
    depthwise_int8, depthwise_int8_available, DepthwiseKernel;
    spatial, spatial_available, SpatialKernel;
    spatial_half, spatial_half_available, SpatialKernel;
    spatial_int8, spatial_int8_available, SpatialKernel;
}

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
