//! Everything public, called wrongly, from code that may not use `unsafe`: an error, a panic, or the right
//! numbers, but never memory that is not there. Under an address sanitizer, valgrind or Miri
//! (`scripts/sanitize.sh`) "never" is checked, too.
#![forbid(unsafe_code)]

mod common;

use common::{Noise, TwoThreads};
use sparse_kernels::epilogue::{Activation, Epilogue};
use sparse_kernels::error::{FormatError, KernelError};
use sparse_kernels::format::{Blocks, DepthwisePattern, DepthwisePatterns, Nonzeros, pattern_stats, stats};
use sparse_kernels::prelude::*;
use sparse_kernels::reference;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Packed weights of any operation.
enum Packed {
    Pointwise(PackedPointwise),
    Depthwise(PackedDepthwise),
    Spatial(PackedSpatial),
}

impl Packed {
    fn name(&self) -> &'static str {
        match self {
            Packed::Pointwise(p) => p.kernel().info().name,
            Packed::Depthwise(p) => p.kernel().info().name,
            Packed::Spatial(p) => p.kernel().info().name,
        }
    }

    fn run(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        y: &mut [f32],
        residual: Option<&[f32]>,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        let epilogue = Epilogue { before: Activation::RELU, after: Activation::HardSwish };
        match self {
            Packed::Pointwise(p) => p.run(geometry, x, y, residual, &epilogue, parallel),
            Packed::Depthwise(p) => p.run(geometry, x, y, residual, &epilogue, parallel),
            Packed::Spatial(p) => p.run(geometry, x, y, residual, &epilogue, parallel),
        }
    }
}

/// A layer of every operation and kernel, with the geometry that fits it.
fn layers() -> Vec<(Packed, ConvGeometry)> {
    let mut noise = Noise::new(7);
    let mut all = vec![];
    let (oc, ic) = if cfg!(miri) { (5, 6) } else { (13, 22) };
    let side = if cfg!(miri) { 5 } else { 9 };
    for kernel in common::pointwise() {
        let packed = PackedPointwise::from_dense(oc, ic, &noise.values(oc * ic), None, kernel).unwrap();
        let geometry = ConvGeometry::new(ConvShape::square(ic, oc, side, 1, 1, 0)).unwrap();
        all.push((Packed::Pointwise(packed), geometry));
    }
    for kernel in common::depthwise() {
        let taps = kernel.kernel().unwrap_or([3, 2]);
        let weights = noise.values(ic * taps[0] * taps[1]);
        let packed = PackedDepthwise::from_dense(ic, taps, &weights, None, kernel).unwrap();
        let shape = ConvShape { group: ic, kernel: taps, ..ConvShape::square(ic, ic, side, 1, 1, 1) };
        all.push((Packed::Depthwise(packed), ConvGeometry::new(shape).unwrap()));
    }
    for kernel in common::spatial() {
        let weights = noise.values(oc * ic * 6);
        let packed = PackedSpatial::from_dense(oc, ic, [2, 3], &weights, None, kernel).unwrap();
        let shape = ConvShape { kernel: [2, 3], ..ConvShape::square(ic, oc, side, 1, 1, 1) };
        all.push((Packed::Spatial(packed), ConvGeometry::new(shape).unwrap()));
    }
    all
}

#[test]
fn slices_of_other_lengths_are_refused() {
    for (packed, geometry) in layers() {
        let (x, y) = (geometry.x_len(), geometry.y_len());
        for (x, y, residual, what) in [
            (x - 1, y, None, "input"),
            (0, y, None, "input"),
            (2 * x, y, None, "input"),
            (x, y - 1, None, "output"),
            (x, y + 1, None, "output"),
            (x, 0, None, "output"),
            (x, y, Some(y - 1), "residual"),
            (x, y, Some(0), "residual"),
            (x, y, Some(y + 1), "residual"),
        ] {
            let residual = residual.map(|len| vec![1.0; len]);
            let result =
                packed.run(&geometry, &vec![1.0; x], &mut vec![0.0; y], residual.as_deref(), &Serial);
            assert!(
                matches!(result, Err(KernelError::Length { what: found, .. }) if found == what),
                "{}: {result:?}",
                packed.name()
            );
        }
    }
}

/// Geometries that look like others' layers, and extreme ones whose tensors are small.
fn geometries(like: &ConvGeometry) -> Vec<ConvGeometry> {
    let s = *like.shape();
    let huge = [usize::MAX, usize::MAX / 2, 1 << (usize::BITS * 5 / 8), u32::MAX as usize, 1 << 31, 1 << 20];
    let mut shapes = vec![
        ConvShape { oc: s.oc + s.group, ..s },
        ConvShape { ic: s.ic + s.group, ..s },
        ConvShape { group: 1, ..s },
        ConvShape { ic: 2 * s.ic, oc: 2 * s.oc, group: 2 * s.group, ..s },
        ConvShape { kernel: [s.kernel[0] + 1, s.kernel[1]], ..s },
        ConvShape { kernel: [s.kernel[1], s.kernel[0]], ..s },
        ConvShape { kernel: [1, 1], ..s },
        ConvShape { kernel: [3, 3], ..s },
        ConvShape { x_layout: Layout::Interleaved, ..s },
        ConvShape { y_layout: Layout::Interleaved, ..s },
        ConvShape { x_layout: Layout::Interleaved, y_layout: Layout::Interleaved, batch: 2, ..s },
        ConvShape { input: [1, 1], pad_before: [3, 3], pad_after: [3, 3], ..s },
        ConvShape { dilation: [2, 3], pad_before: [5, 7], ..s },
    ];
    for n in huge {
        shapes.extend([
            ConvShape { stride: [n, 1], ..s },
            ConvShape { stride: [1, n], ..s },
            ConvShape { stride: [n, n], pad_before: [n / 2, 1], ..s },
            ConvShape { stride: [1, n], pad_before: [0, n - 3], pad_after: [1, 2], ..s },
            ConvShape { dilation: [1, n], pad_after: [1, 2 * (n / 2)], ..s },
            ConvShape { dilation: [n, 1], stride: [n, 1], pad_before: [n, 0], pad_after: [n, 0], ..s },
            ConvShape { batch: n, ..s },
            ConvShape { input: [n, 1], stride: [n, 1], ..s },
        ]);
    }
    let most = if cfg!(miri) { 1 << 9 } else { 1 << 20 };
    let fits = |g: &ConvGeometry| g.x_len().max(g.y_len()) <= most;
    shapes.into_iter().filter_map(|shape| ConvGeometry::new(shape).ok()).filter(fits).collect()
}

#[test]
fn geometries_of_other_layers_are_refused_or_computed() {
    let (mut refused, mut computed) = (0, 0);
    for (packed, own) in layers() {
        for geometry in geometries(&own) {
            let mut noise = Noise::new(3);
            let x = noise.values(geometry.x_len());
            let run = |parallel: &dyn Parallel| {
                let mut y = vec![f32::NAN; geometry.y_len()];
                packed.run(&geometry, &x, &mut y, None, parallel).map(|()| y)
            };
            match (run(&Serial), run(&TwoThreads)) {
                (Ok(one), Ok(two)) => {
                    computed += 1;
                    assert!(one.iter().all(|v| v.is_finite()), "{}: {:?}", packed.name(), geometry.shape());
                    assert_eq!(one, two, "{}: {:?}", packed.name(), geometry.shape());
                }
                (Err(_), Err(_)) => refused += 1,
                (one, two) => panic!("{}: {:?} {:?}", packed.name(), one.err(), two.err()),
            }
        }
    }
    assert!(refused > 10 && computed > 10, "{refused} refused, {computed} computed");
}

/// Huge steps over small inputs, beside the oracle.
#[test]
fn extreme_geometries_are_right() {
    let mut seen = 0;
    let (oc, ic) = (3, 2);
    let mut noise = Noise::new(5);
    for [kh, kw] in [[1, 1], [2, 3]] {
        let own = ConvShape { kernel: [kh, kw], ..ConvShape::square(ic, oc, 7, 1, 1, 1) };
        let weights: Vec<f32> = noise.values(oc * ic * kh * kw);
        for geometry in geometries(&ConvGeometry::new(own).unwrap()) {
            let s = geometry.shape();
            if (s.oc, s.ic, s.kernel) != (oc, ic, [kh, kw]) || geometry.y_len() > 1 << 14 {
                continue;
            }
            let x: Vec<f32> = noise.values(geometry.x_len());
            let epilogue = Epilogue::default();
            let expected = reference::conv(&geometry, &weights, None, None, &x, None, &epilogue);
            let compare = |name: &str, run: &dyn Fn(&mut [f32]) -> Result<(), KernelError>| {
                let mut y = vec![f32::NAN; geometry.y_len()];
                if run(&mut y).is_ok() {
                    common::assert_close(name, &y, &expected, ic * kh * kw);
                    return 1;
                }
                0
            };
            for kernel in common::pointwise().filter(|_| kh * kw == 1) {
                let packed = PackedPointwise::from_dense(oc, ic, &weights, None, kernel).unwrap();
                seen +=
                    compare(kernel.info().name, &|y| packed.run(&geometry, &x, y, None, &epilogue, &Serial));
            }
            for kernel in common::spatial() {
                let packed = PackedSpatial::from_dense(oc, ic, [kh, kw], &weights, None, kernel).unwrap();
                seen +=
                    compare(kernel.info().name, &|y| packed.run(&geometry, &x, y, None, &epilogue, &Serial));
            }
        }
    }
    // Miri runs scalar kernels alone
    assert!(seen > if cfg!(miri) { 5 } else { 20 }, "{seen}");
}

/// Threads that do what they should not.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bad {
    Nothing,
    AllTwice,
    FirstOnly,
    Beyond,
    Everywhere,
    SameAtOnce,
    ManyThreads,
    NoThreads,
    Changing,
    Catches,
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

impl Parallel for Bad {
    fn threads(&self) -> usize {
        match self {
            Bad::ManyThreads => usize::MAX,
            Bad::NoThreads => 0,
            Bad::Changing => [2, usize::MAX / 2 + 1, 0, 3][CALLS.fetch_add(1, Ordering::Relaxed) % 4],
            _ => 4,
        }
    }

    fn for_each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        match self {
            Bad::Nothing => {}
            Bad::AllTwice => (0..tasks).chain(0..tasks).for_each(task),
            Bad::FirstOnly => task(0),
            Bad::Beyond => (0..=tasks).for_each(task),
            Bad::Everywhere => {
                let far = [
                    usize::MAX,
                    usize::MAX / 2 + 1,
                    isize::MAX as usize,
                    tasks,
                    tasks + 1,
                    1 << 33u32.min(usize::BITS - 1),
                ];
                far.into_iter().chain(0..tasks).for_each(task);
            }
            Bad::SameAtOnce => std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| (0..tasks).for_each(task));
                }
            }),
            Bad::Catches => (0..tasks).for_each(|i| {
                let _ = catch_unwind(AssertUnwindSafe(|| task(i)));
                if i == 0 {
                    panic!("in the middle");
                }
            }),
            Bad::ManyThreads | Bad::NoThreads | Bad::Changing => (0..tasks).rev().for_each(task),
        }
    }
}

#[test]
fn threads_that_lie_change_nothing() {
    for (packed, geometry) in layers() {
        let x = Noise::new(1).values(geometry.x_len());
        let mut expected = vec![0.0; geometry.y_len()];
        packed.run(&geometry, &x, &mut expected, None, &Serial).unwrap();
        for bad in [
            Bad::Nothing,
            Bad::AllTwice,
            Bad::FirstOnly,
            Bad::Beyond,
            Bad::Everywhere,
            Bad::SameAtOnce,
            Bad::ManyThreads,
            Bad::NoThreads,
            Bad::Changing,
            Bad::Changing,
            Bad::Catches,
        ] {
            if cfg!(target_family = "wasm") && matches!(bad, Bad::SameAtOnce | Bad::Catches) {
                continue;
            }
            let mut y = vec![0.0; geometry.y_len()];
            let result = catch_unwind(AssertUnwindSafe(|| packed.run(&geometry, &x, &mut y, None, &bad)));
            let what = format!("{}, {bad:?}", packed.name());
            match bad {
                Bad::ManyThreads | Bad::NoThreads | Bad::Changing => {
                    assert_eq!(result.unwrap(), Ok(()), "{what}");
                    assert_eq!(y, expected, "{what}");
                }
                Bad::Catches => assert!(result.is_err(), "{what}"),
                // with a single task to do, the first is all
                Bad::FirstOnly => {
                    let result = result.unwrap();
                    assert!(y == expected || matches!(result, Err(KernelError::Parallel { .. })), "{what}");
                }
                _ => assert!(matches!(result.unwrap(), Err(KernelError::Parallel { .. })), "{what}"),
            }
        }
    }
}

#[test]
fn kernels_refuse_other_formats() {
    let weights = Blocks::<4, 4>::from_dense(8, 8, &[1.0; 64]).unwrap();
    let wide = Blocks::<16, 2>::from_dense(8, 8, &[1.0; 64]).unwrap();
    for kernel in common::pointwise() {
        let fits = kernel.format() == FormatKind::BLOCKS_4X4;
        assert_eq!(PackedPointwise::pack(&weights, None, None, kernel).is_ok(), fits);
        assert!(PackedPointwise::pack(&wide, None, Some(1), kernel).is_err());
        for bias in [&[][..], &[0.0; 7], &[0.0; 9]] {
            assert!(PackedPointwise::from_dense(8, 8, &[1.0; 64], Some(bias), kernel).is_err());
        }
    }
    for kernel in common::depthwise() {
        let fits = kernel.accepts([2, 7]);
        let weights = DepthwisePatterns::from_dense(3, [2, 7], &[1.0; 42]).unwrap();
        assert_eq!(PackedDepthwise::pack(weights, None, kernel).is_ok(), fits);
        assert!(PackedDepthwise::from_dense(3, [3, 3], &[1.0; 26], None, kernel).is_err());
    }
    for kernel in common::spatial() {
        for (oc, ic, taps, len) in
            [(2, 2, [3, 3], 35), (0, 2, [3, 3], 0), (2, usize::MAX, [3, 3], 36), (2, 2, [usize::MAX, 2], 36)]
        {
            assert!(PackedSpatial::from_dense(oc, ic, taps, &vec![1.0; len], None, kernel).is_err());
        }
    }
}

#[test]
fn blocks_with_any_part_broken_are_refused() {
    // 5 x 6 in 2x1: rows of blocks 3, the last one half empty
    let good =
        (5, 6, vec![0u32, 2, 3, 4], vec![0u32, 5, 3, 2], vec![1f32, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 0.0]);
    let parts = |(rows, cols, starts, columns, values): (usize, usize, Vec<u32>, Vec<u32>, Vec<f32>)| {
        Blocks::<2, 1>::from_parts(rows, cols, starts, columns, values)
    };
    assert!(parts(good.clone()).is_ok());
    type Parts = (usize, usize, Vec<u32>, Vec<u32>, Vec<f32>);
    type Break = Box<dyn Fn(&mut Parts)>;
    let broken: Vec<(&str, Break)> = vec![
        ("no rows", Box::new(|p| p.0 = 0)),
        ("no columns", Box::new(|p| p.1 = 0)),
        ("more rows", Box::new(|p| p.0 = 7)),
        ("absurd rows", Box::new(|p| p.0 = usize::MAX)),
        ("absurd columns", Box::new(|p| p.1 = usize::MAX)),
        ("absurd both", Box::new(|p| (p.0, p.1) = (1 << (usize::BITS / 2), 1 << (usize::BITS / 2)))),
        ("columns too many for an index", Box::new(|p| (p.0, p.1) = (5, u32::MAX as usize / 4))),
        ("a column outside", Box::new(|p| p.3[1] = 6)),
        ("an absurd column", Box::new(|p| p.3[1] = u32::MAX)),
        ("columns that do not grow", Box::new(|p| p.3[1] = 0)),
        ("a start too few", Box::new(|p| p.2.truncate(3))),
        ("no starts", Box::new(|p| p.2.clear())),
        ("starts that do not begin at 0", Box::new(|p| p.2[0] = 1)),
        ("starts that fall", Box::new(|p| p.2[1] = 4)),
        ("starts beyond the blocks", Box::new(|p| p.2[3] = 5)),
        ("absurd starts", Box::new(|p| p.2[2] = u32::MAX)),
        ("a value too few", Box::new(|p| p.4.truncate(7))),
        ("no values", Box::new(|p| p.4.clear())),
        ("NaN", Box::new(|p| p.4[0] = f32::NAN)),
        ("infinity", Box::new(|p| p.4[2] = f32::INFINITY)),
        ("a value outside of the matrix", Box::new(|p| p.4[7] = 1.0)),
    ];
    for (what, break_it) in broken {
        let mut one = good.clone();
        break_it(&mut one);
        let result = parts(one);
        // more columns than there were are a larger matrix, and a good one
        let larger = what.contains("for an index") && usize::BITS == 64;
        assert!(result.is_err() || larger, "{what}: {result:?}");
    }
}

#[test]
fn depthwise_parts_and_statistics_refuse_nonsense() {
    let pattern = |id| DepthwisePattern::from_id(id).unwrap();
    let parts = DepthwisePatterns::from_parts;
    for (channels, kernel, groups, taps) in [
        (usize::MAX, [3, 3], vec![(usize::MAX, pattern(8))], 9),
        (usize::MAX, [1, 1], vec![(usize::MAX, pattern(8)), (1, pattern(8))], 1),
        (2, [usize::MAX, usize::MAX], vec![(2, pattern(8))], 2),
        (2, [1 << (usize::BITS / 2), 1 << (usize::BITS / 2)], vec![(2, pattern(8))], 0),
        (2, [0, 3], vec![(2, pattern(8))], 0),
        (2, [3, 3], vec![(0, pattern(1)), (2, pattern(1))], 12),
        (2, [3, 3], vec![(2, pattern(1))], 18),
        (2, [3, 2], vec![(2, pattern(1))], 12),
        (2, [3, 3], vec![], 0),
    ] {
        assert!(
            parts(channels, kernel, &groups, vec![1.0; taps]).is_err(),
            "{channels} {kernel:?} {groups:?}"
        );
    }
    assert!(!pattern(3).keeps(9) && !pattern(3).keeps(usize::MAX));
    for (rows, cols) in
        [(0, 3), (3, 0), (usize::MAX, 2), (1 << (usize::BITS / 2), 1 << (usize::BITS / 2)), (2, 2)]
    {
        assert!(stats(FormatKind::ROWS_1, rows, cols, &[1.0; 3]).is_err());
        assert!(Nonzeros::of(rows, cols, &[1.0; 3]).is_err());
        assert!(pattern_stats(rows, cols, [1, 1], &[1.0; 3]).is_err());
        assert!(pattern_stats(rows, 1, [cols, 2], &[1.0; 3]).is_err());
    }
    assert!(matches!(Blocks::<4, 4>::from_dense(2, 2, &[1.0; 3]), Err(FormatError::Length { .. })));
}

#[test]
fn sizes_that_wrap_around_are_refused() {
    let half = 1usize << (usize::BITS / 2);
    let ok = ConvShape::square(4, 4, 5, 3, 1, 0);
    for shape in [
        ConvShape { ic: half, batch: half, ..ok },
        ConvShape { input: [half, half], ..ok },
        ConvShape { oc: half, input: [half, 3], ..ok },
        ConvShape { input: [isize::MAX as usize / 16 + 2, 1], kernel: [1, 1], ..ok },
        ConvShape { pad_before: [usize::MAX - 4, 0], pad_after: [usize::MAX - 4, 0], ..ok },
        ConvShape { kernel: [half + 1; 2], dilation: [half; 2], ..ok },
        ConvShape { kernel: [2, 2], dilation: [usize::MAX, usize::MAX], ..ok },
    ] {
        assert!(ConvGeometry::new(shape).is_err(), "{shape:?}");
    }
    assert!(ConvGeometry::pointwise(half, half, 1, 1).is_err());
    assert!(ConvGeometry::pointwise(1, usize::MAX, 1, 1).is_err());
}
