//! A quick check of every kernel that this machine can run: right against the oracle, and how fast against
//! the multiply-add peak of its vectors.

use super::peak::{half_multiply_adds_per_second, multiply_adds_per_second};
use crate::chain::{Layer as Weights, Stage};
use crate::depthwise::PackedDepthwise;
use crate::epilogue::{Activation, Epilogue};
use crate::error::KernelError;
use crate::geometry::{ConvGeometry, ConvShape};
use crate::pairs;
use crate::parallel::Serial;
use crate::pointwise::PackedPointwise;
use crate::reference;
use crate::spatial::PackedSpatial;
use crate::table::{self, Element, KernelInfo};
use crate::target::{Half, Isa, Target};
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
    let mut noise = Noise::new(1);
    // the three families of packed weights have one form and no common type
    macro_rules! check_one {
        ($kernel:ident, $weights:path, $small:ident, $large:ident, $pack:ident) => {{
            let info = $kernel.info();
            let (packed, weights, bias) = $pack(&$small)?;
            let error = $small.error($weights(&packed), &weights, &bias)?;
            let (packed, ..) = $pack(&$large)?;
            peaks.measure(info);
            let speed = $large.speed($weights(&packed), packed.stored())?;
            peaks.measure(info);
            let check = Check { kernel: info, error, speed, peak: peaks.of(info) };
            said(&check);
            all.push(check);
        }};
    }
    for kernel in table::pointwise_available().chain(table::pointwise_half_available()) {
        let layer = |oc, ic, hw| Layer::new(ConvShape::square(ic, oc, hw, 1, 1, 0), kernel.info());
        // uneven channels and pixels to be right on, a layer of MobileNet to be fast on
        let (small, large) = (layer(13, 37, 11)?, layer(128, 128, 14)?);
        let mut pack = |layer: &Layer| {
            let s = layer.geometry.shape();
            let weights = noise.blocks(s.oc, s.ic, (kernel.format().r(), kernel.format().c()), 0.5);
            let (weights, bias) = (layer.rounded(weights), noise.values(s.oc));
            let packed = PackedPointwise::from_dense(s.oc, s.ic, &weights, Some(&bias), kernel)?;
            Ok::<_, KernelError>((packed, weights, bias))
        };
        check_one!(kernel, Weights::Pointwise, small, large, pack);
    }
    for kernel in table::depthwise_available().chain(table::depthwise_half_available()) {
        let taps = kernel.kernel().unwrap_or([7, 7]);
        let layer = |channels, hw| {
            let s = ConvShape::square(channels, channels, hw, 1, 1, taps[0] / 2);
            Layer::new(ConvShape { group: channels, kernel: taps, ..s }, kernel.info())
        };
        let (small, large) = (layer(19, 13)?, layer(64, 28)?);
        let mut pack = |layer: &Layer| {
            let channels = layer.geometry.shape().oc;
            let weights = layer.rounded(noise.values(channels * taps[0] * taps[1]));
            let bias = noise.values(channels);
            let packed = PackedDepthwise::from_dense(channels, taps, &weights, Some(&bias), kernel)?;
            Ok::<_, KernelError>((packed, weights, bias))
        };
        check_one!(kernel, Weights::Depthwise, small, large, pack);
    }
    for kernel in table::spatial_available().chain(table::spatial_half_available()) {
        let layer = |oc, ic, hw| Layer::new(ConvShape::square(ic, oc, hw, 3, 1, 1), kernel.info());
        let (small, large) = (layer(13, 9, 11)?, layer(64, 64, 14)?);
        let mut pack = |layer: &Layer| {
            let s = layer.geometry.shape();
            let weights = noise.blocks(s.oc, s.ic * 9, (kernel.format().r(), kernel.format().c()), 0.5);
            let (weights, bias) = (layer.rounded(weights), noise.values(s.oc));
            let packed = PackedSpatial::from_dense(s.oc, s.ic, [3, 3], &weights, Some(&bias), kernel)?;
            Ok::<_, KernelError>((packed, weights, bias))
        };
        check_one!(kernel, Weights::Spatial, small, large, pack);
    }
    for check in &mut all {
        check.peak = peaks.of(check.kernel);
    }
    Ok(all)
}

/// The best multiply-add peak seen so far of every instruction set of this machine, in either precision. A busy core
/// rarely shows its peak: what one kernel is compared with is the best of the measurements beside all of them.
struct Peaks(Vec<(Isa, Element, f64)>);

impl Peaks {
    fn new() -> Peaks {
        Peaks(vec![])
    }

    fn measure(&mut self, kernel: &KernelInfo) {
        let (isa, element) = (kernel.isa, kernel.element);
        let half = || Half::available().into_iter().find(|half| half.target().isa() == isa);
        let full = || Target::available().into_iter().find(|target| target.isa() == isa);
        let once = || match element {
            Element::F32 => full().map(multiply_adds_per_second),
            Element::Bf16 => half().map(half_multiply_adds_per_second),
        };
        let best = (0..10).filter_map(|_| once()).fold(self.of(kernel), f64::max);
        self.0.retain(|(i, e, _)| (*i, *e) != (isa, element));
        self.0.push((isa, element, best));
    }

    /// Multiply-adds a second.
    fn of(&self, kernel: &KernelInfo) -> f64 {
        let known = self.0.iter().find(|(isa, element, _)| (*isa, *element) == (kernel.isa, kernel.element));
        known.map_or(0.0, |(.., best)| *best)
    }
}

/// A geometry with activations, which for a kernel of pairs are numbers that it has.
struct Layer {
    geometry: ConvGeometry,
    element: Element,
    target: Target,
    x: Vec<f32>,
    epilogue: Epilogue,
}

impl Layer {
    fn new(shape: ConvShape, kernel: &KernelInfo) -> Result<Layer, KernelError> {
        let geometry = ConvGeometry::new(shape)?;
        let epilogue = Epilogue::activation(Activation::RELU6);
        let (element, target) = (kernel.element, kernel.target());
        let mut layer = Layer { geometry, element, target, x: vec![], epilogue };
        layer.x = layer.rounded(Noise::new(7).values(geometry.x_len()));
        Ok(layer)
    }

    /// The nearest numbers that the kernel has.
    fn rounded(&self, mut values: Vec<f32>) -> Vec<f32> {
        if self.element == Element::Bf16 {
            values.iter_mut().for_each(|v| *v = pairs::float(pairs::round(*v)));
        }
        values
    }

    /// Largest deviation of packed weights from the oracle over what is allowed.
    fn error(&self, layer: Weights, weights: &[f32], bias: &[f32]) -> Result<f64, KernelError> {
        let expected =
            reference::conv(&self.geometry, weights, None, Some(bias), &self.x, None, &self.epilogue);
        let stage = Stage { layer, geometry: self.geometry, epilogue: self.epilogue };
        let mut y = vec![f32::NAN; self.geometry.y_len()];
        match self.element {
            Element::F32 => stage.run(&self.x, &mut y, None, &Serial)?,
            Element::Bf16 => {
                let (x, mut lanes) = self.lanes()?;
                stage.run_pairs(&x, &mut lanes, None, &Serial)?;
                pairs::unpack(self.target, self.planes()[1], &lanes, &mut y)?;
            }
        }
        Ok(self.deviation(&y, &expected, weights.len() / self.geometry.shape().oc))
    }

    /// The oracle rounds once; a sum of `terms` products of at most 1 rounds as often by half a unit in the last place
    /// of at most `terms`; four times the root-mean-square growth of that is far above what is seen and far below a
    /// lost product. A kernel of pairs rounds what it puts out to eight significant bits.
    fn deviation(&self, y: &[f32], expected: &[f32], terms: usize) -> f64 {
        let sum = f64::from(f32::EPSILON) * 2.0 * (terms as f64 + 8.0);
        let output = if self.element == Element::Bf16 { 1.0 / 256.0 } else { 0.0 };
        let worst = y.iter().zip(expected).map(|(got, expected)| {
            f64::from((got - expected).abs()) / (sum + output * f64::from(expected.abs()))
        });
        // a NaN, which max() would pass over, is as wrong as can be
        worst.fold(0f64, |worst, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) })
    }

    /// Images, channels and pixels of input and output.
    fn planes(&self) -> [[usize; 3]; 2] {
        let s = self.geometry.shape();
        let [x, y] = [self.geometry.input_pixels(), self.geometry.output_pixels()];
        [[s.batch, s.ic, x], [s.batch, s.oc, y]]
    }

    /// The input in pairs, and room for the output.
    fn lanes(&self) -> Result<(Vec<u32>, Vec<u32>), KernelError> {
        let [x, y] = self.planes();
        let [mut x_lanes, y_lanes] =
            [x, y].map(|[images, channels, pixels]| vec![0; images * Element::Bf16.lanes(channels) * pixels]);
        pairs::pack(self.target, x, &self.x, &mut x_lanes)?;
        Ok((x_lanes, y_lanes))
    }

    /// Multiply-adds with `stored` weights a second in the best of many runs.
    fn speed(&self, layer: Weights, stored: usize) -> Result<f64, KernelError> {
        let stage = Stage { layer, geometry: self.geometry, epilogue: self.epilogue };
        let best = match self.element {
            Element::F32 => {
                let mut y = vec![0f32; self.geometry.y_len()];
                best(|| stage.run(&self.x, &mut y, None, &Serial))?
            }
            Element::Bf16 => {
                let (x, mut y) = self.lanes()?;
                best(|| stage.run_pairs(&x, &mut y, None, &Serial))?
            }
        };
        Ok((stored * self.geometry.output_pixels()) as f64 / best)
    }
}

/// Seconds of the best of many runs, behind one that does not count.
fn best(mut run: impl FnMut() -> Result<(), KernelError>) -> Result<f64, KernelError> {
    run()?;
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < TIME {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FormatKind;

    #[test]
    #[cfg_attr(miri, ignore = "times kernels, which an interpreter does not do")]
    fn every_kernel_is_checked_and_right() {
        let mut said = 0;
        let all = check(&mut |_| said += 1).unwrap();
        assert_eq!(all.len(), said);
        let available = table::pointwise_available().count()
            + table::pointwise_half_available().count()
            + table::depthwise_available().count()
            + table::depthwise_half_available().count()
            + table::spatial_available().count()
            + table::spatial_half_available().count();
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
        let kernel = table::pointwise(Target::SCALAR, FormatKind::ROWS_1);
        let layer = Layer::new(ConvShape::square(4, 4, 3, 1, 1, 0), kernel.info()).unwrap();
        let packed = PackedPointwise::from_dense(4, 4, &[0.5; 16], Some(&[0.25; 4]), kernel).unwrap();
        let error = |weights| layer.error(Weights::Pointwise(&packed), weights, &[0.25; 4]).unwrap();
        assert!(error(&[0.5; 16]) <= 1.0 && error(&[0.75; 16]) > 1.0);
        assert_eq!(layer.deviation(&[f32::NAN], &[0.0], 4), f64::INFINITY);
    }
}
