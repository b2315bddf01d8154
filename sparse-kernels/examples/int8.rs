//! Times kernels of int8 beside those of single and half precision, in turn, on layers of networks.
//!
//! ```text
//! cargo run --release -p tract-sparse-kernels --example int8 -- [format [density [layer]]] [--target NAME]
//! ```
//! The formats `depthwise` and `spatial` stand for depthwise layers and for those of 3x3 and 7x7 taps over all channels, all of
//! which are dense (patterns: the example `spatial`). Prints, per layer, format and density:
//! milliseconds of each type, how many times as fast int8 is as either, its 10^9 multiply-adds on stored weights a
//! second, and their share of its peak, which is measured beside. All are medians.

mod layers;

use layers::{LAYERS, median};
use noise::Noise;
use sparse_kernels::chain::{Layer, Stage};
use sparse_kernels::doctor::peak::{int8_multiply_adds_per_second, multiply_adds_per_second};
use sparse_kernels::prelude::*;
use std::hint::black_box;
use std::time::{Duration, Instant};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Channels, map, kernel, stride.
const DEPTHWISE: [(usize, usize, usize, usize); 14] = [
    (32, 112, 3, 1),
    (64, 112, 3, 2),
    (128, 56, 3, 1),
    (256, 28, 3, 1),
    (512, 14, 3, 1),
    (512, 14, 3, 2),
    (1024, 7, 3, 1),
    (144, 56, 3, 2),
    (144, 56, 5, 2),
    (240, 28, 5, 1),
    (480, 14, 5, 1),
    (672, 14, 5, 2),
    (1152, 7, 5, 1),
    (192, 28, 7, 1),
];

/// Input and output channels, map, kernel, stride.
const SPATIAL: [(usize, usize, usize, usize, usize); 5] =
    [(3, 64, 224, 7, 2), (3, 32, 224, 3, 2), (64, 64, 56, 3, 1), (128, 256, 28, 3, 2), (512, 512, 7, 3, 1)];

fn main() -> Fallible<()> {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let mut target = Target::detect();
    if let Some(at) = args.iter().position(|a| a == "--target") {
        target = Target::named(args.get(at + 1).ok_or("--target needs a name")?)?;
        args.drain(at..at + 2);
    }
    let wanted = |i: usize, value: &str| args.get(i).is_none_or(|a| a == "all" || a == value);
    let peaks = || (multiply_adds_per_second(target), int8_multiply_adds_per_second(target.int8()));
    let (mut single, mut bytes): (Vec<f64>, Vec<f64>) = (0..200).map(|_| peaks()).unzip();
    println!(
        "{target}, {}: peak {:.1} and {:.1} GMAC/s",
        target.int8().target(),
        median(&mut single) / 1e9,
        median(&mut bytes) / 1e9
    );
    println!(
        "{:<16} {:>12} {:>7} {:>9} {:>9} {:>9} {:>7} {:>7} {:>8} {:>6}",
        "layer", "format", "density", "f32", "half", "int8", "of f32", "of half", "GMAC/s", "peak"
    );
    let formats = [
        FormatKind::BLOCKS_4X4,
        FormatKind::BLOCKS_2X4,
        FormatKind::BLOCKS_1X4,
        FormatKind::ROWS_4,
        FormatKind::ROWS_2,
        FormatKind::ROWS_1,
    ];
    for format in formats.into_iter().filter(|format| wanted(0, &format.to_string())) {
        for density in [1.0, 0.7, 0.5, 0.2, 0.1].into_iter().filter(|d: &f64| wanted(1, &d.to_string())) {
            let mut totals = [0.0; 4];
            for (name, ic, oc, hw) in
                LAYERS.into_iter().filter(|l| args.get(2).is_none_or(|a| l.0.contains(a)))
            {
                let what = format!("{name:<16} {format:>12} {density:>7}");
                let times = pointwise(target, format, density, (ic, oc, hw))?;
                print(&what, &times);
                if name.starts_with("v1") {
                    // what the layer would take at the peak of the moment
                    let ideal = times.share * times.milliseconds[2];
                    let of_layer = times.milliseconds.into_iter().chain([ideal]);
                    totals.iter_mut().zip(of_layer).for_each(|(total, ms)| *total += ms);
                }
            }
            if let [f32, half, int8, ideal] = totals
                && int8 > 0.0
            {
                let times = Times { milliseconds: [f32, half, int8], speed: f64::NAN, share: ideal / int8 };
                print(&format!("{:<16} {format:>12} {density:>7}", "v1 all"), &times);
            }
        }
    }
    if wanted(0, "depthwise") {
        for (channels, hw, k, stride) in DEPTHWISE {
            let name = format!("{channels}@{hw}/{stride}");
            print(
                &format!("{name:<16} {:>12} {:>7}", format!("{k}x{k}"), 1),
                &depthwise(target, channels, hw, k, stride)?,
            );
        }
    }
    if wanted(0, "spatial") {
        for (ic, oc, hw, k, stride) in SPATIAL {
            let name = format!("{ic}x{oc}@{hw}/{stride}");
            print(
                &format!("{name:<16} {:>12} {:>7}", format!("{k}x{k}"), 1),
                &spatial(target, [oc, ic], hw, k, stride)?,
            );
        }
    }
    Ok(())
}

/// Medians of one layer: milliseconds in f32, half and int8, and multiply-adds a second of the last, and their share of
/// the peak.
struct Times {
    milliseconds: [f64; 3],
    speed: f64,
    share: f64,
}

fn print(what: &str, times: &Times) {
    let [f32, half, int8] = times.milliseconds;
    println!(
        "{what} {f32:>9.4} {half:>9.4} {int8:>9.4} {:>7.2} {:>7.2} {:>8.1} {:>5.1}%",
        f32 / int8,
        half / int8,
        times.speed / 1e9,
        100.0 * times.share
    );
}

fn quantised(channels: usize) -> Result<Quantised, FormatError> {
    Quantised::new(vec![100; channels], vec![1e-3; channels], 0, 0)
}

fn pointwise(
    target: Target,
    format: FormatKind,
    density: f64,
    (ic, oc, hw): (usize, usize, usize),
) -> Fallible<Times> {
    let weights = Noise::new(1).blocks(oc, ic, (format.r(), format.c()), density);
    // away from zero, so that both have the same zeros
    let whole: Vec<f32> = weights.iter().map(|w| (127.0 * w.abs()).ceil().copysign(*w)).collect();
    // kernels of floats read rows where weights are neighbours along inputs only
    let of_floats = match format {
        FormatKind::BLOCKS_2X4 => FormatKind::ROWS_2,
        FormatKind::BLOCKS_1X4 => FormatKind::ROWS_1,
        other => other,
    };
    let of_halves = match format {
        FormatKind::BLOCKS_2X4 => FormatKind::BLOCKS_2X2,
        FormatKind::BLOCKS_1X4 => FormatKind::BLOCKS_1X2,
        other => other,
    };
    let geometry = ConvGeometry::new(ConvShape::square(ic, oc, hw, 1, 1, 0))?;
    let (bias, pixels) = (vec![0.1; oc], Some(hw * hw));
    let pack = |kernel| PackedPointwise::from_groups([oc, ic, 1], &weights, Some(&bias), pixels, kernel);
    let single = pack(table::pointwise(target, of_floats))?;
    let half = target.half().map(|half| pack(table::pointwise_half(half, of_halves))).transpose()?;
    let kernel = table::pointwise_int8(target.int8(), format);
    let int8 = PackedPointwise::from_groups_int8([oc, ic, 1], &whole, &quantised(oc)?, pixels, kernel)?;
    let macs = (int8.stored() * geometry.output_pixels()) as f64;
    time(
        target,
        &geometry,
        macs,
        Layer::Pointwise(&single),
        half.as_ref().map(Layer::Pointwise),
        Layer::Pointwise(&int8),
    )
}

fn depthwise(target: Target, channels: usize, hw: usize, k: usize, stride: usize) -> Fallible<Times> {
    let shape = ConvShape { group: channels, ..ConvShape::square(channels, channels, hw, k, stride, k / 2) };
    let (geometry, bias) = (ConvGeometry::new(shape)?, vec![0.1; channels]);
    let weights = Noise::new(1).values(channels * k * k);
    let whole: Vec<f32> = weights.iter().map(|w| (127.0 * w).round()).collect();
    let pack = |kernel| PackedDepthwise::from_dense(channels, [k, k], &weights, Some(&bias), kernel);
    let single = pack(table::depthwise(target, [k, k]).ok_or("no kernel")?)?;
    let half = target.half().and_then(|half| table::depthwise_half(half, [k, k])).map(pack).transpose()?;
    let kernel = table::depthwise_int8(target.int8(), [k, k]).ok_or("no kernel")?;
    let int8 = PackedDepthwise::from_dense_int8(channels, [k, k], &whole, &quantised(channels)?, kernel)?;
    let macs = (int8.stored() * geometry.output_pixels()) as f64;
    time(
        target,
        &geometry,
        macs,
        Layer::Depthwise(&single),
        half.as_ref().map(Layer::Depthwise),
        Layer::Depthwise(&int8),
    )
}

fn spatial(target: Target, [oc, ic]: [usize; 2], hw: usize, k: usize, stride: usize) -> Fallible<Times> {
    let geometry = ConvGeometry::new(ConvShape::square(ic, oc, hw, k, stride, k / 2))?;
    let (bias, format) = (vec![0.1; oc], FormatKind::ROWS_4);
    let weights = Noise::new(1).values(oc * ic * k * k);
    let whole: Vec<f32> = weights.iter().map(|w| (127.0 * w).round()).collect();
    let pack = |kernel| PackedSpatial::from_dense(oc, ic, [k, k], &weights, Some(&bias), kernel);
    let single = pack(table::spatial(target, format))?;
    let half = target.half().and_then(|half| table::spatial_half(half, format)).map(pack).transpose()?;
    let kernel = table::spatial_int8(target.int8(), format);
    let int8 = PackedSpatial::from_groups_int8([oc, ic, 1], [k, k], &whole, &quantised(oc)?, kernel)?;
    let macs = (int8.stored() * geometry.output_pixels()) as f64;
    time(
        target,
        &geometry,
        macs,
        Layer::Spatial(&single),
        half.as_ref().map(Layer::Spatial),
        Layer::Spatial(&int8),
    )
}

fn time(
    target: Target,
    geometry: &ConvGeometry,
    macs: f64,
    single: Layer,
    half: Option<Layer>,
    int8: Layer,
) -> Fallible<Times> {
    let s = geometry.shape();
    let epilogue = Epilogue::activation(Activation::RELU6);
    let stage = |layer, epilogue| Stage { layer, geometry: *geometry, epilogue };
    let (single, int8) = (stage(single, epilogue), stage(int8, Epilogue::default()));
    let half = half.map(|layer| stage(layer, epilogue));
    let x: Vec<f32> = Noise::new(2).values(geometry.x_len());
    let mut y = vec![0f32; geometry.y_len()];
    let shape = [s.batch, s.ic, geometry.input_pixels()];
    let lanes =
        |channels: usize, per_lane: usize, pixels: usize| vec![0u32; channels.div_ceil(per_lane) * pixels];
    let (mut x_pairs, mut y_pairs) =
        (lanes(s.ic, 2, geometry.input_pixels()), lanes(s.oc, 2, geometry.output_pixels()));
    sparse_kernels::pairs::pack(target, shape, &x, &mut x_pairs)?;
    let (mut x_quads, mut y_quads) =
        (lanes(s.ic, 4, geometry.input_pixels()), lanes(s.oc, 4, geometry.output_pixels()));
    let affine = sparse_kernels::quads::Affine::new(1.0 / 128.0, 128)?;
    sparse_kernels::quads::quantize(target, shape, &x, affine, &mut x_quads)?;
    let begin = Instant::now();
    let (mut times, mut shares) = ([const { vec![] }; 3], vec![]);
    while times[2].len() < 7 || begin.elapsed() < Duration::from_millis(100) {
        let start = Instant::now();
        single.run(black_box(&x), black_box(&mut y), None, &Serial)?;
        times[0].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        if let Some(half) = &half {
            half.run_pairs(black_box(&x_pairs), black_box(&mut y_pairs), None, &Serial)?;
            times[1].push(start.elapsed().as_secs_f64());
        }
        let before = int8_multiply_adds_per_second(target.int8());
        let start = Instant::now();
        int8.run_quads(black_box(&x_quads), black_box(&mut y_quads), &Serial)?;
        let seconds = start.elapsed().as_secs_f64();
        times[2].push(seconds);
        let peak = (before + int8_multiply_adds_per_second(target.int8())) / 2.0;
        shares.push(macs / seconds / peak);
    }
    let milliseconds =
        times.map(|mut times| if times.is_empty() { f64::NAN } else { 1e3 * median(&mut times) });
    Ok(Times { milliseconds, speed: macs / milliseconds[2] * 1e3, share: median(&mut shares) })
}
