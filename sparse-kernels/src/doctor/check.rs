//! A quick check of every kernel that this machine can run: right against the oracle, and how fast against
//! the multiply-add peak of its vectors.

use super::peak::multiply_adds_per_second;
use crate::depthwise::PackedDepthwise;
use crate::epilogue::{Activation, Epilogue};
use crate::error::KernelError;
use crate::geometry::{ConvGeometry, ConvShape};
use crate::parallel::Serial;
use crate::pointwise::PackedPointwise;
use crate::reference;
use crate::spatial::PackedSpatial;
use crate::table::{self, KernelInfo};
use crate::target::{Isa, Target};
use noise::Noise;
use std::time::{Duration, Instant};

/// How long one kernel is timed.
const TIME: Duration = Duration::from_millis(25);

/// What the check of one kernel found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// The kernel.
    pub kernel: &'static KernelInfo,
    /// Largest deviation from the oracle, over the largest that rounding can explain: wrong above 1.
    pub error: f64,
    /// Multiply-adds with stored weights a second.
    pub speed: f64,
    /// Multiply-adds a second of the core with the vectors of this kernel: the best that was seen during the
    /// whole check.
    pub peak: f64,
}

impl Check {
    /// Whether the kernel computes what it should.
    pub fn is_right(&self) -> bool {
        self.error <= 1.0
    }
}

/// Checks every kernel, and calls `said` after each.
///
/// # Errors
/// A kernel that refuses the layers of the check.
pub fn check(said: &mut dyn FnMut(&Check)) -> Result<Vec<Check>, KernelError> {
    let mut all = vec![];
    let mut peaks = Peaks::new();
    let mut add = |check: Check| {
        said(&check);
        all.push(check);
    };
    // the three families of packed weights have one form and no common type
    macro_rules! check_one {
        ($kernel:ident, $small:ident, $large:ident, $pack:ident) => {{
            let (packed, weights, bias) = $pack(&$small)?;
            let error = $small.error(&weights, &bias, &|x, y, epilogue| {
                packed.run(&$small.geometry, x, y, None, epilogue, &Serial)
            })?;
            let (packed, ..) = $pack(&$large)?;
            let isa = $kernel.info().isa;
            peaks.measure(isa);
            let speed = $large.speed(packed.stored(), &|x, y, epilogue| {
                packed.run(&$large.geometry, x, y, None, epilogue, &Serial)
            })?;
            peaks.measure(isa);
            add(Check { kernel: $kernel.info(), error, speed, peak: peaks.of(isa) });
        }};
    }
    let mut noise = Noise::new(1);
    for kernel in table::pointwise_available() {
        let layer = |oc, ic, hw| Layer::new(ConvShape::square(ic, oc, hw, 1, 1, 0));
        // uneven channels and pixels to be right on, a layer of MobileNet to be fast on
        let (small, large) = (layer(13, 37, 11)?, layer(128, 128, 14)?);
        let mut pack = |layer: &Layer| {
            let s = layer.geometry.shape();
            let weights = noise.blocks(s.oc, s.ic, (kernel.format().r(), kernel.format().c()), 0.5);
            let bias = noise.values(s.oc);
            let packed = PackedPointwise::from_dense(s.oc, s.ic, &weights, Some(&bias), kernel)?;
            Ok::<_, KernelError>((packed, weights, bias))
        };
        check_one!(kernel, small, large, pack);
    }
    for kernel in table::depthwise_available() {
        let taps = kernel.kernel().unwrap_or([7, 7]);
        let layer = |channels, hw| {
            let s = ConvShape::square(channels, channels, hw, 1, 1, taps[0] / 2);
            Layer::new(ConvShape { group: channels, kernel: taps, ..s })
        };
        let (small, large) = (layer(19, 13)?, layer(64, 28)?);
        let mut pack = |layer: &Layer| {
            let channels = layer.geometry.shape().oc;
            let weights = noise.values(channels * taps[0] * taps[1]);
            let bias = noise.values(channels);
            let packed = PackedDepthwise::from_dense(channels, taps, &weights, Some(&bias), kernel)?;
            Ok::<_, KernelError>((packed, weights, bias))
        };
        check_one!(kernel, small, large, pack);
    }
    for kernel in table::spatial_available() {
        let layer = |oc, ic, hw| Layer::new(ConvShape::square(ic, oc, hw, 3, 1, 1));
        let (small, large) = (layer(13, 9, 11)?, layer(64, 64, 14)?);
        let mut pack = |layer: &Layer| {
            let s = layer.geometry.shape();
            let weights = noise.blocks(s.oc, s.ic * 9, (kernel.format().r(), kernel.format().c()), 0.5);
            let bias = noise.values(s.oc);
            let packed = PackedSpatial::from_dense(s.oc, s.ic, [3, 3], &weights, Some(&bias), kernel)?;
            Ok::<_, KernelError>((packed, weights, bias))
        };
        check_one!(kernel, small, large, pack);
    }
    for check in &mut all {
        check.peak = peaks.of(check.kernel.isa);
    }
    Ok(all)
}

/// The best multiply-add peak seen so far of every instruction set of this machine. A busy core rarely shows
/// its peak: what one kernel is compared with is the best of the measurements beside all of them.
struct Peaks(Vec<(Target, f64)>);

impl Peaks {
    fn new() -> Peaks {
        Peaks(Target::available().into_iter().map(|target| (target, 0.0)).collect())
    }

    fn measure(&mut self, isa: Isa) {
        for (target, best) in self.0.iter_mut().filter(|(target, _)| target.isa() == isa).take(1) {
            *best = (0..10).map(|_| multiply_adds_per_second(*target)).fold(*best, f64::max);
        }
    }

    /// Multiply-adds a second.
    fn of(&self, isa: Isa) -> f64 {
        self.0.iter().filter(|(target, _)| target.isa() == isa).map(|(_, best)| *best).fold(0.0, f64::max)
    }
}

/// A geometry with activations.
struct Layer {
    geometry: ConvGeometry,
    x: Vec<f32>,
    epilogue: Epilogue,
}

/// Runs packed weights: input, output, epilogue.
type Run<'a> = &'a dyn Fn(&[f32], &mut [f32], &Epilogue) -> Result<(), KernelError>;

impl Layer {
    fn new(shape: ConvShape) -> Result<Layer, KernelError> {
        let geometry = ConvGeometry::new(shape)?;
        let x = Noise::new(7).values(geometry.x_len());
        Ok(Layer { geometry, x, epilogue: Epilogue::activation(Activation::RELU6) })
    }

    /// Largest deviation from the oracle over what is allowed. The oracle rounds once; a sum of `n` products
    /// of at most 1 rounds `n` times by half a unit in the last place of at most `n`; four times the
    /// root-mean-square growth of that is far above what is seen and far below a lost product.
    fn error(&self, weights: &[f32], bias: &[f32], run: Run) -> Result<f64, KernelError> {
        let expected =
            reference::conv(&self.geometry, weights, None, Some(bias), &self.x, None, &self.epilogue);
        let mut y = vec![f32::NAN; self.geometry.y_len()];
        run(&self.x, &mut y, &self.epilogue)?;
        let terms = weights.len() / self.geometry.shape().oc;
        let allowed = f64::from(f32::EPSILON) * 2.0 * (terms as f64 + 8.0);
        let worst = y.iter().zip(&expected).map(|(got, expected)| f64::from((got - expected).abs()));
        // a NaN, which max() would pass over, is as wrong as can be
        Ok(worst.fold(0f64, |worst, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) }) / allowed)
    }

    /// Multiply-adds with `stored` weights a second in the best of many runs.
    fn speed(&self, stored: usize, run: Run) -> Result<f64, KernelError> {
        let mut y = vec![0f32; self.geometry.y_len()];
        run(&self.x, &mut y, &self.epilogue)?;
        let (begin, mut best) = (Instant::now(), f64::INFINITY);
        while begin.elapsed() < TIME {
            let start = Instant::now();
            run(&self.x, &mut y, &self.epilogue)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok((stored * self.geometry.output_pixels()) as f64 / best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "times kernels, which an interpreter does not do")]
    fn every_kernel_is_checked_and_right() {
        let mut said = 0;
        let all = check(&mut |_| said += 1).unwrap();
        assert_eq!(all.len(), said);
        let available = table::pointwise_available().count()
            + table::depthwise_available().count()
            + table::spatial_available().count();
        assert_eq!(all.len(), available);
        for check in all {
            assert!(check.is_right(), "{check:?}");
            assert!(check.speed > 0.0 && check.peak > 0.0, "{check:?}");
            // Loops of plain Rust reach their peak in optimised builds only, and emulators have none. Clocks
            // drift by some per cent while all kernels are timed.
            let native = cfg!(all(target_arch = "x86_64", not(debug_assertions)));
            assert!(!native || check.speed <= 1.05 * check.peak, "{check:?}");
        }
    }

    #[test]
    fn a_wrong_kernel_is_found() {
        let layer = Layer::new(ConvShape::square(4, 4, 3, 1, 1, 0)).unwrap();
        let (weights, bias) = ([0.5; 16], [0.25; 4]);
        let lazy: Run = &|_, y, _| {
            y.fill(0.0);
            Ok(())
        };
        assert!(layer.error(&weights, &bias, lazy).unwrap() > 1.0);
        let silent: Run = &|_, _, _| Ok(());
        assert_eq!(layer.error(&weights, &bias, silent).unwrap(), f64::INFINITY);
    }
}
