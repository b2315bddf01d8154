//! Fits a cost table to this machine: measures our kernels and stock tract's operators over many shapes, and
//! finds the constants by which times are predicted ([`crate::costs`]).
//!
//! `tract-sparse fit` keeps the table where [`file()`] says, and
//! [`Policy::from_knobs`](crate::Policy::from_knobs) finds it there.

use crate::TRACT_VERSION;
use crate::analyse::LayerShape;
use crate::costs::{Cost, Key, Work};
use crate::measure::stock_plan;
use noise::Noise;
use sparse_kernels::depthwise::PackedDepthwise;
use sparse_kernels::format::{DepthwisePatterns, FormatKind, Nonzeros, stats};
use sparse_kernels::pairs;
use sparse_kernels::prelude::*;
use sparse_kernels::quads::{self, Quantised};
use sparse_kernels::spatial::PackedSpatial;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;
use tract_core::internal::*;

/// Where the table of a target is kept for this user; none if the system has no such place.
pub fn file(target: Target) -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("tract-sparse").join(format!("costs-{target}.txt")))
}

/// The text of a table of `target` for `machine`, fitted to `samples` by `command`.
///
/// # Errors
/// Never, but for want of memory.
pub fn table(target: &str, machine: &str, command: &str, samples: &Samples) -> TractResult<String> {
    let mut text = format!(
        "# Cost table of {target}, fitted by `{command}`.\n\
         # Machine: {machine}. Stock: tract {TRACT_VERSION}.\n\
         # key, then nanoseconds: per 1000 multiply-adds, per row, per 1000 inputs, per call.\n\
         # behind #: layers measured, median and largest deviation of the fit.\n"
    );
    for (key, samples) in samples {
        let cost = fit(samples);
        let mut errors: Vec<f64> =
            samples.iter().map(|s| (Cost::new(cost).of(&s.work) / s.ns - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        let [mac, row, input, call] = cost;
        writeln!(
            text,
            "{key:30} {mac:8.3} {row:8.3} {input:8.3} {call:8.1}  # {}, {:.0} %, {:.0} %",
            samples.len(),
            100.0 * errors[errors.len() / 2],
            100.0 * errors[errors.len() - 1],
        )?;
    }
    Ok(text)
}

/// One measured layer.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What there was to do.
    pub work: Work,
    /// Nanoseconds of one call.
    pub ns: f64,
}

/// Measured layers by the name of their key.
pub type Samples = BTreeMap<String, Vec<Sample>>;

/// Times every case on `target` whose key begins with `only`; `progress` is told the number of cases that are done, and of all.
///
/// # Errors
/// A layer that cannot be run.
pub fn measured(target: Target, only: &str, progress: &mut dyn FnMut(usize, usize)) -> TractResult<Samples> {
    let mut samples = Samples::new();
    let cases = cases();
    for (at, case) in cases.iter().enumerate() {
        progress(at, cases.len());
        let ready = case.prepare(target)?.filter(|ready| ready.key.name().starts_with(only));
        if let Some(Ready { key, work, run }) = ready {
            samples.entry(key.name()).or_default().push(Sample { work, ns: time(run)? });
        }
    }
    Ok(samples)
}

/// A layer to be measured.
#[derive(Debug, Clone, Copy)]
struct Layer {
    oc: usize,
    ic: usize,
    hw: usize,
    kernel: usize,
    stride: usize,
    depthwise: bool,
}

fn layers() -> Vec<Layer> {
    let pointwise = |(oc, ic, hw)| Layer { oc, ic, hw, kernel: 1, stride: 1, depthwise: false };
    let spatial = |(oc, ic, hw, stride)| Layer { oc, ic, hw, kernel: 3, stride, depthwise: false };
    let depthwise = |(c, hw, kernel, stride)| Layer { oc: c, ic: c, hw, kernel, stride, depthwise: true };
    let mut all = vec![];
    all.extend(
        [
            (64, 32, 112),
            (128, 128, 56),
            (256, 128, 28),
            (256, 256, 28),
            (512, 512, 14),
            (1024, 1024, 7),
            (96, 16, 112),
            (24, 96, 56),
            (144, 24, 56),
            (32, 144, 28),
            (192, 32, 28),
            (64, 384, 14),
            (384, 64, 14),
            (96, 384, 6),
            (384, 96, 6),
            (160, 960, 7),
            (1280, 320, 7),
            (8, 32, 96),
            (32, 8, 96),
            (16, 64, 48),
            (1000, 1024, 1),
            (128, 128, 1),
            (64, 64, 1),
            (512, 512, 1),
            (480, 120, 1),
        ]
        .map(pointwise),
    );
    all.extend(
        [
            (64, 64, 56, 1),
            (128, 64, 56, 2),
            (128, 128, 28, 1),
            (256, 256, 14, 1),
            (512, 512, 7, 1),
            (16, 16, 32, 1),
            (32, 32, 16, 1),
            (64, 64, 8, 1),
            (32, 16, 32, 2),
            (32, 3, 224, 2),
            (24, 3, 192, 2),
            (16, 1, 96, 2),
        ]
        .map(spatial),
    );
    all.extend(
        [
            (32, 112, 3, 1),
            (128, 56, 3, 1),
            (256, 28, 3, 1),
            (512, 14, 3, 1),
            (1024, 7, 3, 1),
            (384, 6, 3, 1),
            (192, 12, 3, 1),
            (96, 6, 3, 1),
            (64, 24, 3, 1),
            (64, 112, 3, 2),
            (128, 56, 3, 2),
            (256, 28, 3, 2),
            (512, 14, 3, 2),
            (96, 112, 3, 2),
            (144, 56, 5, 2),
            (240, 28, 5, 1),
            (120, 28, 5, 1),
            (672, 14, 5, 1),
            (672, 14, 5, 2),
            (960, 7, 5, 1),
        ]
        .map(depthwise),
    );
    all
}

/// How a layer is run.
#[derive(Debug, Clone, Copy)]
enum Way {
    Stock,
    /// Our matrix kernels, for a format, on weights of which a share is kept.
    Blocks(FormatKind, f64),
    /// Our kernels for pairs of channels, likewise: pairs that a spatial layer keeps are of the same tap.
    Pairs(FormatKind, f64),
    /// Our kernels for quads of channels, likewise.
    Quads(FormatKind, f64),
    /// Our depthwise kernels, all taps or six of nine; perhaps on pairs of channels.
    Taps {
        three_of_nine: bool,
        pairs: bool,
    },
    /// Our depthwise kernels for quads of channels, which go through all taps.
    QuadTaps,
}

/// A layer run in one way.
#[derive(Debug)]
pub struct Case {
    layer: Layer,
    way: Way,
}

/// A case with its input, ready to run.
pub struct Ready {
    /// The line of the table that it belongs to.
    pub key: Key,
    /// What there is to do.
    pub work: Work,
    /// Runs it once.
    pub run: Box<dyn FnMut() -> TractResult<()>>,
}

/// The formats of pointwise kernels for pairs of channels.
const PAIRS: [FormatKind; 4] =
    [FormatKind::BLOCKS_1X2, FormatKind::BLOCKS_2X2, FormatKind::BLOCKS_4X2, FormatKind::BLOCKS_4X4];

/// The formats of pointwise kernels for quads of channels.
const QUADS: [FormatKind; 3] = [FormatKind::BLOCKS_1X4, FormatKind::BLOCKS_2X4, FormatKind::BLOCKS_4X4];

/// Everything that is measured for a table.
pub fn cases() -> Vec<Case> {
    let mut all = vec![];
    for layer in layers() {
        let mut add = |way| all.push(Case { layer, way });
        if layer.depthwise {
            for pairs in [false, true] {
                add(Way::Taps { three_of_nine: false, pairs });
                if layer.kernel == 3 {
                    add(Way::Taps { three_of_nine: true, pairs });
                }
            }
            add(Way::QuadTaps);
        } else {
            let formats: &[FormatKind] = match layer.kernel {
                1 => &FormatKind::POINTWISE,
                _ => &[FormatKind::ROWS_1, FormatKind::ROWS_2, FormatKind::ROWS_4],
            };
            let [pairs, quads]: [&[FormatKind]; 2] = match layer.kernel {
                1 => [&PAIRS, &QUADS],
                _ => [formats, formats],
            };
            for density in [1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05] {
                formats.iter().for_each(|format| add(Way::Blocks(*format, density)));
                pairs.iter().for_each(|format| add(Way::Pairs(*format, density)));
                quads.iter().for_each(|format| add(Way::Quads(*format, density)));
            }
        }
        add(Way::Stock);
    }
    all
}

impl Case {
    /// Makes weights and input; none if there is no kernel for it.
    ///
    /// # Errors
    /// Stock tract refuses the layer.
    pub fn prepare(&self, target: Target) -> TractResult<Option<Ready>> {
        let Layer { oc, ic, hw, kernel, stride, depthwise } = self.layer;
        let geometry = ConvGeometry::new(ConvShape {
            group: if depthwise { ic } else { 1 },
            ..ConvShape::square(ic, oc, hw, kernel, stride, kernel / 2)
        })?;
        let shape = LayerShape {
            oc,
            ic,
            group: geometry.shape().group,
            kernel: tvec!(kernel; 2),
            stride: tvec!(stride; 2),
            dilation: tvec!(1; 2),
            input: Some(tvec!(hw; 2)),
            transposed: false,
            pixels: Some(geometry.output_pixels()),
            output: Some(geometry.output().as_slice().into()),
            calls: 1,
        };
        let (taps, cols) = ([kernel; 2], ic * kernel * kernel);
        let mut noise = Noise::new(1);
        let x = noise.values(geometry.x_len());
        let mut y = vec![0f32; geometry.y_len()];
        let epilogue = Epilogue::activation(Activation::RELU6);
        let (key, work, run): (Key, Work, Box<dyn FnMut() -> TractResult<()>>) = match self.way {
            Way::Stock => {
                let key = match (depthwise, kernel) {
                    (true, _) => Key::StockDepthwise(stride),
                    (false, 1) => Key::StockPointwise(hw == 1),
                    (false, _) => Key::StockSpatial,
                };
                let x = Tensor::from_shape(&[1, ic, hw, hw], &x)?.into_tvalue();
                let mut state = stock_plan(&shape, &geometry, &noise.values(shape.weights()))?.spawn()?;
                let run = move || {
                    black_box(state.run(tvec!(x.clone()))?);
                    Ok(())
                };
                (key, Work::stock(&shape), Box::new(run))
            }
            Way::Taps { three_of_nine, pairs } => {
                let mut weights = noise.values(shape.weights());
                if three_of_nine {
                    for taps in weights.chunks_exact_mut(9) {
                        [0, 5, 6].into_iter().for_each(|t| taps[t] = 0.0);
                    }
                }
                let kernel = match pairs {
                    false => table::depthwise(target, taps),
                    true => target.half().and_then(|half| table::depthwise_half(half, taps)),
                };
                let Some(kernel) = kernel else { return Ok(None) };
                let packed = PackedDepthwise::from_dense(oc, taps, &weights, None, kernel)?;
                let stored = DepthwisePatterns::from_dense(oc, taps, &weights)?.stored();
                let work = Work::depthwise(kernel.vector(), &shape, stored);
                if pairs {
                    let (lanes, mut y) = lanes(target, &geometry, &x)?;
                    let run = move || {
                        Ok(packed.run_pairs(
                            &geometry,
                            &lanes,
                            black_box(&mut y),
                            None,
                            &epilogue,
                            &Serial,
                        )?)
                    };
                    (Key::HalfDepthwise(stride), work, Box::new(run))
                } else {
                    let run =
                        move || Ok(packed.run(&geometry, &x, black_box(&mut y), None, &epilogue, &Serial)?);
                    (Key::Depthwise(stride), work, Box::new(run))
                }
            }
            Way::Blocks(format, density) if kernel == 1 => {
                let weights = noise.blocks(oc, ic, (format.r(), format.c()), density);
                let kernel = table::pointwise(target, format);
                let packed = PackedPointwise::from_dense(oc, ic, &weights, None, kernel)?;
                let stats = stats(format, oc, ic, &weights)?;
                let work = Work::pointwise(kernel.info(), kernel.vector(), &shape, &stats);
                let run =
                    move || Ok(packed.run(&geometry, &x, black_box(&mut y), None, &epilogue, &Serial)?);
                (Key::pointwise(format, &shape), work, Box::new(run))
            }
            Way::Pairs(format, density) if kernel == 1 => {
                let Some(half) = target.half() else { return Ok(None) };
                let weights = noise.blocks(oc, ic, (format.r(), format.c()), density);
                let kernel = table::pointwise_half(half, format);
                let packed = PackedPointwise::from_dense(oc, ic, &weights, None, kernel)?;
                let stats = stats(format, oc, ic, &weights)?;
                let work = Work::pointwise(kernel.info(), kernel.vector(), &shape, &stats);
                let (lanes, mut y) = lanes(target, &geometry, &x)?;
                let run = move || {
                    Ok(packed.run_pairs(&geometry, &lanes, black_box(&mut y), None, &epilogue, &Serial)?)
                };
                (Key::HalfPointwise(format, hw == 1), work, Box::new(run))
            }
            Way::Pairs(format, density) => {
                let Some(half) = target.half() else { return Ok(None) };
                let weights =
                    in_lanes(&mut noise, [oc, ic], kernel * kernel, half.element(), format, density);
                let Some(kernel) = table::spatial_half(half, format) else { return Ok(None) };
                let packed = PackedSpatial::from_dense(oc, ic, taps, &weights, None, kernel)?;
                let nonzeros = Nonzeros::of(oc, cols, &weights)?;
                let stats = nonzeros.spatial_stats(kernel.format(), 1, taps, kernel.element())?;
                let work = Work::spatial(kernel.info(), kernel.vector(), &shape, &stats);
                let (lanes, mut y) = lanes(target, &geometry, &x)?;
                let run = move || {
                    Ok(packed.run_pairs(&geometry, &lanes, black_box(&mut y), None, &epilogue, &Serial)?)
                };
                (Key::HalfSpatial(format), work, Box::new(run))
            }
            Way::Quads(format, density) if kernel == 1 => {
                let weights = whole(&noise.blocks(oc, ic, (format.r(), format.c()), density));
                let kernel = table::pointwise_int8(target.int8(), format);
                let quantised = Quantised::new(vec![0; oc], vec![1.0 / ic as f32 / 64.0; oc], 128, 128)?;
                let packed =
                    PackedPointwise::from_groups_int8([oc, ic, 1], &weights, &quantised, None, kernel)?;
                let stats = stats(format, oc, ic, &weights)?;
                let work = Work::pointwise(kernel.info(), kernel.vector(), &shape, &stats);
                let (lanes, mut y) = in_quads(target, &geometry, &x)?;
                let run = move || Ok(packed.run_quads(&geometry, &lanes, black_box(&mut y), &Serial)?);
                (Key::Int8Pointwise(format, hw == 1), work, Box::new(run))
            }
            Way::Quads(format, density) => {
                let all = in_lanes(&mut noise, [oc, ic], kernel * kernel, Element::Int8, format, density);
                let (weights, kernel) = (whole(&all), table::spatial_int8(target.int8(), format));
                let quantised = Quantised::new(vec![0; oc], vec![1.0 / cols as f32 / 64.0; oc], 128, 128)?;
                let packed =
                    PackedSpatial::from_groups_int8([oc, ic, 1], taps, &weights, &quantised, kernel)?;
                let nonzeros = Nonzeros::of(oc, cols, &weights)?;
                let stats = nonzeros.spatial_stats(kernel.format(), 1, taps, kernel.element())?;
                let work = Work::spatial(kernel.info(), kernel.vector(), &shape, &stats);
                let (lanes, mut y) = in_quads(target, &geometry, &x)?;
                let run = move || Ok(packed.run_quads(&geometry, &lanes, black_box(&mut y), &Serial)?);
                (Key::Int8Spatial(format), work, Box::new(run))
            }
            Way::QuadTaps => {
                let int8 = target.int8();
                let Some(kernel) = table::depthwise_int8(int8, taps) else { return Ok(None) };
                let weights = whole(&noise.values(shape.weights()));
                let quantised = Quantised::new(vec![0; oc], vec![1.0 / 64.0 / 9.0; oc], 128, 128)?;
                let packed = PackedDepthwise::from_dense_int8(oc, taps, &weights, &quantised, kernel)?;
                let work = Work::depthwise(kernel.vector(), &shape, weights.len());
                let (lanes, mut y) = in_quads(target, &geometry, &x)?;
                let run = move || Ok(packed.run_quads(&geometry, &lanes, black_box(&mut y), &Serial)?);
                (Key::Int8Depthwise(stride), work, Box::new(run))
            }
            Way::Blocks(format, density) => {
                let weights = noise.blocks(oc, cols, (format.r(), format.c()), density);
                let kernel = table::spatial(target, format);
                let packed = PackedSpatial::from_dense(oc, ic, taps, &weights, None, kernel)?;
                let stats = stats(format, oc, cols, &weights)?;
                let work = Work::spatial(kernel.info(), kernel.vector(), &shape, &stats);
                let run =
                    move || Ok(packed.run(&geometry, &x, black_box(&mut y), None, &epilogue, &Serial)?);
                (Key::Spatial(format), work, Box::new(run))
            }
        };
        Ok(Some(Ready { key, work, run }))
    }
}

/// Weights `[oc][ic][taps]` of which the lanes of a share of the groups of output channels are kept.
fn in_lanes(
    noise: &mut Noise,
    [oc, ic]: [usize; 2],
    taps: usize,
    element: Element,
    format: FormatKind,
    density: f64,
) -> Vec<f32> {
    let (cols, lanes) = (ic * taps, ic.div_ceil(element.per_lane()));
    let of_lanes = noise.blocks(oc, lanes * taps, (format.r(), 1), density);
    let lane = |i: usize| i / cols * lanes * taps + i % cols / taps / element.per_lane() * taps + i % taps;
    (0..oc * cols).map(|i| of_lanes[lane(i)]).collect()
}

/// Weights from -1 to 1 as whole numbers of one byte; none of them becomes zero that was not.
fn whole(weights: &[f32]) -> Vec<f32> {
    let largest = f32::from(i8::MAX);
    weights.iter().map(|w| (w * largest).abs().ceil().min(largest).copysign(*w)).collect()
}

/// An input in quads of channels, and room for the output.
fn in_quads(target: Target, geometry: &ConvGeometry, x: &[f32]) -> TractResult<(Vec<u32>, Vec<u32>)> {
    let shape = geometry.shape();
    let lanes = |channels: usize, pixels| vec![0; channels.div_ceil(Element::Int8.per_lane()) * pixels];
    let mut x_lanes = lanes(shape.ic, geometry.input_pixels());
    // bytes of all sizes, around the zero point of `Quantised`
    let steps = quads::Affine::new(1.0 / 127.0, 128)?;
    quads::quantize(target, [1, shape.ic, geometry.input_pixels()], x, steps, &mut x_lanes)?;
    Ok((x_lanes, lanes(shape.oc, geometry.output_pixels())))
}

/// An input in pairs of channels, and room for the output.
fn lanes(target: Target, geometry: &ConvGeometry, x: &[f32]) -> TractResult<(Vec<u32>, Vec<u32>)> {
    let shape = geometry.shape();
    let mut lanes = vec![0; shape.ic.div_ceil(2) * geometry.input_pixels()];
    pairs::pack(target, [1, shape.ic, geometry.input_pixels()], x, &mut lanes)?;
    Ok((lanes, vec![0; shape.oc.div_ceil(2) * geometry.output_pixels()]))
}

/// Nanoseconds of one call: the lower quartile of at least nine, a few milliseconds in all. (What disturbs a
/// run only ever makes it longer.)
fn time<T>(mut run: impl FnMut() -> TractResult<T>) -> TractResult<f64> {
    black_box(run()?);
    let begin = Instant::now();
    let mut all = vec![];
    while all.len() < 9 || (begin.elapsed().as_millis() < 8 && all.len() < 400) {
        let start = Instant::now();
        black_box(run()?);
        all.push(start.elapsed().as_nanos() as f64);
    }
    all.sort_by(f64::total_cmp);
    Ok(all[all.len() / 4])
}

/// Constants of least squared relative deviation, none negative: coordinate descent, which for four unknowns
/// settles long before the last round.
fn fit(samples: &[Sample]) -> [f64; 4] {
    let rows: Vec<[f64; 4]> = samples.iter().map(|s| s.work.features().map(|f| f / s.ns)).collect();
    let mut cost = [0f64; 4];
    for _ in 0..20_000 {
        for k in 0..4 {
            let (mut top, mut bottom) = (0.0, 0.0);
            for row in &rows {
                let others: f64 = (0..4).filter(|j| *j != k).map(|j| row[j] * cost[j]).sum();
                top += row[k] * (1.0 - others);
                bottom += row[k] * row[k];
            }
            cost[k] = if bottom > 0.0 { (top / bottom).max(0.0) } else { 0.0 };
        }
    }
    cost
}
