//! A quick check of every kernel that this machine can run: right against the oracle, and how fast against
//! the multiply-add peak of its vectors.

use super::peak::{half_multiply_adds_per_second, int8_multiply_adds_per_second, multiply_adds_per_second};
use crate::chain::{Layer as Weights, Stage};
use crate::depthwise::PackedDepthwise;
use crate::epilogue::{Activation, Epilogue};
use crate::error::KernelError;
use crate::geometry::{ConvGeometry, ConvShape};
use crate::pairs::{self, Numbers};
use crate::parallel::Serial;
use crate::pointwise::PackedPointwise;
use crate::quads::{self, Quantised};
use crate::reference;
use crate::spatial::PackedSpatial;
use crate::table::{self, Element, KernelInfo};
use crate::target::{Core, Half, Int8, Isa, Target};
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
    let pointwise = table::pointwise_available()
        .chain(table::pointwise_half_available())
        .chain(table::pointwise_int8_available());
    for kernel in pointwise {
        let layer = |oc, ic, hw| Layer::new(ConvShape::square(ic, oc, hw, 1, 1, 0), kernel.info());
        // uneven channels and pixels to be right on, a layer of MobileNet to be fast on
        let (small, large) = (layer(13, 37, 11)?, layer(128, 128, 14)?);
        let mut pack = |layer: &Layer| {
            let s = layer.geometry.shape();
            let weights = noise.blocks(s.oc, s.ic, (kernel.format().r(), kernel.format().c()), 0.5);
            let (weights, bias) = (layer.rounded(weights), layer.bias(noise.values(s.oc)));
            let packed = match kernel.element() {
                Element::Int8 => {
                    let (shape, quantised) = ([s.oc, s.ic, 1], layer.quantised(&bias)?);
                    PackedPointwise::from_groups_int8(shape, &weights, &quantised, None, kernel)?
                }
                _ => PackedPointwise::from_dense(s.oc, s.ic, &weights, Some(&bias), kernel)?,
            };
            Ok::<_, KernelError>((packed, weights, bias))
        };
        check_one!(kernel, Weights::Pointwise, small, large, pack);
    }
    let depthwise = table::depthwise_available()
        .chain(table::depthwise_half_available())
        .chain(table::depthwise_int8_available());
    for kernel in depthwise {
        let taps = kernel.kernel().unwrap_or([7, 7]);
        let layer = |channels, hw| {
            let s = ConvShape::square(channels, channels, hw, 1, 1, taps[0] / 2);
            Layer::new(ConvShape { group: channels, kernel: taps, ..s }, kernel.info())
        };
        let (small, large) = (layer(19, 13)?, layer(64, 28)?);
        let mut pack = |layer: &Layer| {
            let channels = layer.geometry.shape().oc;
            let weights = layer.rounded(noise.values(channels * taps[0] * taps[1]));
            let bias = layer.bias(noise.values(channels));
            let packed = match kernel.info().element {
                Element::Int8 => {
                    let quantised = layer.quantised(&bias)?;
                    PackedDepthwise::from_dense_int8(channels, taps, &weights, &quantised, kernel)?
                }
                _ => PackedDepthwise::from_dense(channels, taps, &weights, Some(&bias), kernel)?,
            };
            Ok::<_, KernelError>((packed, weights, bias))
        };
        check_one!(kernel, Weights::Depthwise, small, large, pack);
    }
    let spatial = table::spatial_available()
        .chain(table::spatial_half_available())
        .chain(table::spatial_int8_available());
    for kernel in spatial {
        let layer = |oc, ic, hw| Layer::new(ConvShape::square(ic, oc, hw, 3, 1, 1), kernel.info());
        let (small, large) = (layer(13, 9, 11)?, layer(64, 64, 14)?);
        let mut pack = |layer: &Layer| {
            let s = layer.geometry.shape();
            let weights = noise.blocks(s.oc, s.ic * 9, (kernel.format().r(), kernel.format().c()), 0.5);
            let (weights, bias) = (layer.rounded(weights), layer.bias(noise.values(s.oc)));
            let packed = match kernel.element() {
                Element::Int8 => {
                    let (shape, quantised) = ([s.oc, s.ic, 1], layer.quantised(&bias)?);
                    PackedSpatial::from_groups_int8(shape, [3, 3], &weights, &quantised, kernel)?
                }
                _ => PackedSpatial::from_dense(s.oc, s.ic, [3, 3], &weights, Some(&bias), kernel)?,
            };
            Ok::<_, KernelError>((packed, weights, bias))
        };
        check_one!(kernel, Weights::Spatial, small, large, pack);
    }
    for check in &mut all {
        check.peak = peaks.of(check.kernel);
    }
    Ok(all)
}

/// The best multiply-add peak seen so far of every instruction set of this machine, for every type; of quads for every
/// class of cores, which may have other instructions. A busy core rarely shows its peak: what one kernel is compared with
/// is the best of the measurements beside all of them.
struct Peaks(Vec<((Isa, Core, Element), f64)>);

impl Peaks {
    fn new() -> Peaks {
        Peaks(vec![])
    }

    fn measure(&mut self, kernel: &KernelInfo) {
        let (isa, core, element) = Peaks::key(kernel);
        let fits = |half: &Half| (half.target().isa(), half.element()) == (isa, element);
        let half = || Half::available().into_iter().find(fits);
        let int8 = || {
            let of_core = |int8: &Int8| (int8.target().isa(), int8.target().core()) == (isa, core);
            Int8::available().into_iter().find(of_core)
        };
        let full = || Target::available().into_iter().find(|target| target.isa() == isa);
        let once = || match element {
            Element::F32 => full().map(multiply_adds_per_second),
            Element::Bf16 | Element::F16 => half().map(half_multiply_adds_per_second),
            Element::Int8 => int8().map(int8_multiply_adds_per_second),
        };
        let best = (0..10).filter_map(|_| once()).fold(self.of(kernel), f64::max);
        self.0.retain(|(key, _)| *key != (isa, core, element));
        self.0.push(((isa, core, element), best));
    }

    /// What has a peak of its own.
    fn key(kernel: &KernelInfo) -> (Isa, Core, Element) {
        let core = if kernel.element == Element::Int8 { kernel.core } else { Core::Any };
        (kernel.isa, core, kernel.element)
    }

    /// Multiply-adds a second.
    fn of(&self, kernel: &KernelInfo) -> f64 {
        let known = self.0.iter().find(|(key, _)| *key == Peaks::key(kernel));
        known.map_or(0.0, |(_, best)| *best)
    }
}

/// A geometry with activations, which for a kernel of pairs are numbers that it has. Those of a kernel of quads are
/// whole numbers from -127 to 127, which bytes stand for whose zero point is [`ZERO`].
struct Layer {
    geometry: ConvGeometry,
    element: Element,
    numbers: Numbers,
    target: Target,
    x: Vec<f32>,
    epilogue: Epilogue,
}

/// Zero point of bytes.
const ZERO: u8 = 128;

impl Layer {
    fn new(shape: ConvShape, kernel: &KernelInfo) -> Result<Layer, KernelError> {
        let geometry = ConvGeometry::new(shape)?;
        let (element, numbers, target) = (kernel.element, Numbers::of_kernel(kernel), kernel.target());
        let epilogue = match element {
            Element::Int8 => Epilogue::default(),
            _ => Epilogue::activation(Activation::RELU6),
        };
        let mut layer = Layer { geometry, element, numbers, target, x: vec![], epilogue };
        layer.x = layer.rounded(Noise::new(7).values(geometry.x_len()));
        Ok(layer)
    }

    /// The nearest numbers that the kernel has.
    fn rounded(&self, mut values: Vec<f32>) -> Vec<f32> {
        match self.element {
            Element::F32 => {}
            Element::Bf16 | Element::F16 => {
                values.iter_mut().for_each(|v| *v = self.numbers.float(self.numbers.round(*v)));
            }
            Element::Int8 => values.iter_mut().for_each(|v| *v = (127.0 * *v).round()),
        }
        values
    }

    /// The nearest numbers that sums of the kernel can begin with.
    fn bias(&self, bias: Vec<f32>) -> Vec<f32> {
        if self.element == Element::Int8 { self.rounded(bias) } else { bias }
    }

    /// What follows the sums of a kernel of quads.
    fn quantised(&self, bias: &[f32]) -> Result<Quantised, KernelError> {
        let scales = vec![1.0 / 512.0; bias.len()];
        Ok(Quantised::new(bias.iter().map(|b| *b as i32).collect(), scales, ZERO, ZERO)?)
    }

    /// The bytes of planes of sums or of steps from the zero point, of which one is `scale`.
    fn bytes(&self, shape: [usize; 3], planes: &[f32], scale: f32) -> Result<Vec<u32>, KernelError> {
        let [images, channels, pixels] = shape;
        let mut lanes = vec![0; images * Element::Int8.lanes(channels) * pixels];
        let affine = quads::Affine::new(scale, ZERO)?;
        quads::quantize(self.target, shape, planes, affine, &mut lanes)?;
        Ok(lanes)
    }

    /// Largest deviation of packed weights from the oracle over what is allowed.
    fn error(&self, layer: Weights, weights: &[f32], bias: &[f32]) -> Result<f64, KernelError> {
        let expected =
            reference::conv(&self.geometry, weights, None, Some(bias), &self.x, None, &self.epilogue);
        if self.element == Element::Int8 {
            return self.error_of_bytes(layer, &expected);
        }
        let stage = Stage { layer, geometry: self.geometry, epilogue: self.epilogue };
        let mut y = vec![f32::NAN; self.geometry.y_len()];
        match self.element {
            Element::F32 => stage.run(&self.x, &mut y, None, &Serial)?,
            Element::Bf16 | Element::F16 => {
                let (x, mut lanes) = self.lanes()?;
                stage.run_pairs(&x, &mut lanes, None, &Serial)?;
                pairs::unpack(self.numbers, self.planes()[1], &lanes, &mut y)?;
            }
            Element::Int8 => unreachable!("compared as bytes"),
        }
        Ok(self.deviation(&y, &expected, weights.len() / self.geometry.shape().oc))
    }

    /// None if the bytes are those of these sums, which f32 holds; otherwise as wrong as can be, since nothing about bytes
    /// is left to a kernel.
    fn error_of_bytes(&self, layer: Weights, sums: &[f32]) -> Result<f64, KernelError> {
        let [x, y] = self.planes();
        // a power of two, by which a division is a multiplication
        let expected = self.bytes(y, sums, 512.0)?;
        let stage = Stage { layer, geometry: self.geometry, epilogue: self.epilogue };
        let mut got = vec![0; expected.len()];
        stage.run_quads(&self.bytes(x, &self.x, 1.0)?, &mut got, &Serial)?;
        let planes = |lanes: &[u32]| {
            let mut bytes = vec![0; sums.len()];
            quads::unpack(self.target, y, lanes, false, &mut bytes).map(|()| bytes)
        };
        Ok(if planes(&got)? == planes(&expected)? { 0.0 } else { f64::INFINITY })
    }

    /// The oracle rounds once; a sum of `terms` products of at most 1 rounds as often by half a unit in the
    /// last place of at most `terms`; four times the root-mean-square growth of that is far above what is
    /// seen and far below a lost product. A kernel of pairs rounds what it puts out to its significant bits,
    /// one of f16 every sum of some, and the bias.
    fn deviation(&self, y: &[f32], expected: &[f32], terms: usize) -> f64 {
        let unit = if self.element == Element::F16 { 1.0 / 1024.0 } else { f64::from(f32::EPSILON) };
        let sum = unit * 2.0 * (terms as f64 + 8.0);
        let output = match self.element {
            Element::F32 => 0.0,
            Element::Bf16 => 1.0 / 256.0,
            Element::F16 => 1.0 / 2048.0,
            Element::Int8 => unreachable!("compared as bytes"),
        };
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
        pairs::pack(self.numbers, x, &self.x, &mut x_lanes)?;
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
            Element::Bf16 | Element::F16 => {
                let (x, mut y) = self.lanes()?;
                best(|| stage.run_pairs(&x, &mut y, None, &Serial))?
            }
            Element::Int8 => {
                let [x, y] = self.planes();
                let x = self.bytes(x, &self.x, 1.0)?;
                let mut y = vec![0; y[0] * Element::Int8.lanes(y[1]) * y[2]];
                best(|| stage.run_quads(&x, &mut y, &Serial))?
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
    fn a_wrong_kernel_is_found() {
        let kernel = table::pointwise(Target::SCALAR, FormatKind::ROWS_1);
        let layer = Layer::new(ConvShape::square(4, 4, 3, 1, 1, 0), kernel.info()).unwrap();
        let packed = PackedPointwise::from_dense(4, 4, &[0.5; 16], Some(&[0.25; 4]), kernel).unwrap();
        let error = |weights| layer.error(Weights::Pointwise(&packed), weights, &[0.25; 4]).unwrap();
        assert!(error(&[0.5; 16]) <= 1.0 && error(&[0.75; 16]) > 1.0);
        assert_eq!(layer.deviation(&[f32::NAN], &[0.0], 4), f64::INFINITY);
    }
}
