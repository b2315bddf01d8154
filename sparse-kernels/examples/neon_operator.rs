//! One layer between two marks, for tools that count the instructions of an aarch64 program.
//!
//! ```text
//! neon_operator OPERATOR LAYER WEIGHTS [TARGET [TYPE [FORMAT]]]      for example: neon_operator pointwise 256x28 4x4:0.5 neon-a53
//! ```
//! OPERATOR is pointwise, depthwise or spatial; or pack, which rounds planes to pairs or quads, whatever WEIGHTS say.
//! LAYER is CHANNELSxSIDE, INxOUTxSIDE or either with /STRIDE: a square map, in f32 with bias and ReLU6, or
//! in pairs of that, if TYPE is f16 or bf16, or in quads of bytes, if it is int8. WEIGHTS are
//!
//! * pointwise: FORMAT:DENSITY, where DENSITY is the share of weight groups that is kept, of all layer,
//!   exactly;
//! * depthwise: `dense` and `5x5`, with all taps, or `3:9`, a pattern for every 16 channels, six taps kept;
//! * spatial, 3x3: `dense`, or `5:9`, a pattern for every four output channels of an input channel, four taps
//!   kept; `5:9:DENSITY` where only that share of these kernels is there. FORMAT is how many output channels a kernel
//!   takes together, 4x1 unless it is said.
//!
//! Between the marks is a single run, after one that warms up. `scripts/neon-cost.sh` prints tables from it.

use noise::Noise;
use sparse_kernels::chain::{Layer, Stage};
use sparse_kernels::doctor::marks;
use sparse_kernels::pairs;
use sparse_kernels::prelude::*;
use sparse_kernels::quads;
use std::error::Error;
use std::hint::black_box;

/// A matrix of which the share `density` of groups is not zero.
fn groups(rows: usize, columns: usize, format: FormatKind, density: f64, noise: &mut Noise) -> Vec<f32> {
    let mut groups = vec![];
    for row in (0..rows).step_by(format.r()) {
        for column in (0..columns).step_by(format.c()) {
            groups.push((noise.share(), row, column));
        }
    }
    groups.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut weights = vec![0f32; rows * columns];
    for (_, row, column) in &groups[..(groups.len() as f64 * density).round() as usize] {
        for r in *row..rows.min(row + format.r()) {
            for c in *column..columns.min(column + format.c()) {
                weights[r * columns + c] = noise.share() - 0.5;
            }
        }
    }
    weights
}

/// Whether pattern `which` of 3x3 taps keeps a tap: six of nine, as in depthwise 3:9, or four of nine.
fn keeps(which: usize, tap: usize, kept: usize) -> bool {
    let (row, column) = (tap / 3, tap % 3);
    let right = which >> row & 1 == 1;
    let six = column == 1 || (column == 0) != right;
    match kept {
        6 => six,
        // The centre, and three of the eight others in turn.
        4 => tap == 4 || (tap - usize::from(tap > 4) + which) % 8 < 3,
        _ => true,
    }
}

/// The layer with `side` pixels a side.
fn layer(text: &str, taps: usize, depthwise: bool) -> Result<ConvShape, Box<dyn Error>> {
    let (layer, stride) = text.split_once('/').unwrap_or((text, "1"));
    let numbers = layer.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let (ic, oc, side) = match numbers[..] {
        [channels, side] => (channels, channels, side),
        [ic, oc, side] => (ic, oc, side),
        _ => return Err(format!("{text:?} is no layer: CHANNELSxSIDE, for example 256x28").into()),
    };
    let shape = ConvShape::square(ic, oc, side, taps, stride.parse()?, taps / 2);
    Ok(if depthwise { ConvShape { group: ic, ..shape } } else { shape })
}

/// Runs a layer twice, the second time between the marks.
fn count(shape: ConvShape, numbers: Numbers, noise: &mut Noise, layer: Layer) -> Result<(), Box<dyn Error>> {
    let geometry = ConvGeometry::new(shape)?;
    let x = noise.values(geometry.x_len());
    let epilogue = match numbers {
        Numbers::Int8(_) => Epilogue::default(),
        _ => Epilogue::activation(Activation::RELU6),
    };
    let stage = Stage { layer, geometry, epilogue };
    let (s, per_lane) = (geometry.shape(), numbers.element().per_lane());
    let lanes = |channels: usize, pixels: usize| vec![0; s.batch * channels.div_ceil(per_lane) * pixels];
    let mut x_lanes = lanes(s.ic, geometry.input_pixels());
    let mut y_lanes = lanes(s.oc, geometry.output_pixels());
    let planes = [s.batch, s.ic, geometry.input_pixels()];
    match numbers {
        Numbers::F32 => {
            let mut y = vec![0f32; geometry.y_len()];
            twice(&x, &mut y, |x, y| stage.run(x, y, None, &Serial))
        }
        Numbers::Half(half) => {
            pairs::pack(half, planes, &x, &mut x_lanes)?;
            twice(&x_lanes, &mut y_lanes, |x, y| stage.run_pairs(x, y, None, &Serial))
        }
        Numbers::Int8(int8) => {
            quads::quantize(int8.target(), planes, &x, affine()?, &mut x_lanes)?;
            twice(&x_lanes, &mut y_lanes, |x, y| stage.run_quads(x, y, &Serial))
        }
    }
}

/// What a layer computes in.
#[derive(Clone, Copy)]
enum Numbers {
    F32,
    Half(Half),
    Int8(Int8),
}

impl Numbers {
    fn named(target: Target, name: &str) -> Result<Numbers, String> {
        if name == Element::F32.name() {
            return Ok(Numbers::F32);
        }
        if name == Element::Int8.name() {
            return Ok(Numbers::Int8(target.int8()));
        }
        let half = target.halves().find(|half| half.element().name() == name);
        half.map(Numbers::Half).ok_or_else(|| format!("{target} has no kernels for {name}"))
    }

    fn element(self) -> Element {
        match self {
            Numbers::F32 => Element::F32,
            Numbers::Half(half) => half.element(),
            Numbers::Int8(_) => Element::Int8,
        }
    }
}

/// Bytes for values from -1 to 1.
fn affine() -> Result<quads::Affine, FormatError> {
    quads::Affine::new(1.0 / 128.0, 128)
}

/// Weights as whole numbers of a byte, with the same zeros.
fn whole(weights: &[f32]) -> Vec<f32> {
    weights.iter().map(|w| (127.0 * w.abs()).ceil().copysign(*w)).collect()
}

/// Numbers of an int8 layer that end like a ReLU.
fn quantised(channels: usize) -> Result<Quantised, FormatError> {
    Quantised::new(vec![100; channels], vec![1e-3; channels], 128, 0)
}

/// Runs something twice, the second time between the marks.
fn twice<X, Y>(
    x: &[X],
    y: &mut [Y],
    run: impl Fn(&[X], &mut [Y]) -> Result<(), KernelError>,
) -> Result<(), Box<dyn Error>> {
    run(x, y)?;
    marks::begin();
    run(black_box(x), black_box(y))?;
    marks::end();
    black_box(y);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arg = |i: usize, default: &'static str| args.get(i).map_or(default, String::as_str);
    let target = Target::named(arg(3, "auto"))?;
    let numbers = Numbers::named(target, arg(4, Element::F32.name()))?;
    let mut noise = Noise::new(1);
    let noise = &mut noise;
    let kernel = match arg(0, "pointwise") {
        "pointwise" => {
            let (format, density) =
                arg(2, "4x4:0.5").split_once(':').ok_or("weights are FORMAT:DENSITY, for example 4x4:0.5")?;
            let density = density.parse::<f64>()?;
            let format = FormatKind::POINTWISE
                .into_iter()
                .find(|f| f.to_string() == format)
                .ok_or_else(|| format!("no pointwise format is called {format:?}"))?;
            if !(0.0..=1.0).contains(&density) {
                return Err(format!("density {density} is not between 0 and 1").into());
            }
            let shape = layer(arg(1, "256x28"), 1, false)?;
            let weights = groups(shape.oc, shape.ic, format, density, noise);
            let kernel = match numbers {
                Numbers::F32 => table::pointwise(target, format),
                Numbers::Half(half) => table::pointwise_half(half, format),
                Numbers::Int8(int8) => table::pointwise_int8(int8, format),
            };
            let bias = noise.values(shape.oc);
            let packed = match numbers {
                Numbers::Int8(_) => PackedPointwise::from_groups_int8(
                    [shape.oc, shape.ic, 1],
                    &whole(&weights),
                    &quantised(shape.oc)?,
                    Some(shape.input[0] * shape.input[1]),
                    kernel,
                )?,
                _ => PackedPointwise::from_dense(shape.oc, shape.ic, &weights, Some(&bias), kernel)?,
            };
            count(shape, numbers, noise, Layer::Pointwise(&packed))?;
            kernel.info()
        }
        "depthwise" => {
            let (taps, kept) = match arg(2, "3:9") {
                "dense" => (3, 9),
                "3:9" => (3, 6),
                "5x5" => (5, 25),
                other => return Err(format!("{other:?} is not dense, 3:9 or 5x5").into()),
            };
            let shape = layer(arg(1, "128x56"), taps, true)?;
            let window = taps * taps;
            let mut weights = noise.values(shape.ic * window);
            for (i, weight) in weights.iter_mut().enumerate() {
                let (channel, tap) = (i / window, i % window);
                if kept < 9 && !keeps(channel / 16 * 7 % 8, tap, kept) {
                    *weight = 0.0;
                }
            }
            let bias = noise.values(shape.ic);
            let size = [taps, taps];
            let kernel = match numbers {
                Numbers::F32 => table::depthwise(target, size),
                Numbers::Half(half) => table::depthwise_half(half, size),
                Numbers::Int8(int8) => table::depthwise_int8(int8, size),
            };
            let kernel = kernel.ok_or("no such kernel")?;
            let packed = match numbers {
                Numbers::Int8(_) => {
                    let numbers = quantised(shape.ic)?;
                    PackedDepthwise::from_dense_int8(shape.ic, size, &whole(&weights), &numbers, kernel)?
                }
                _ => PackedDepthwise::from_dense(shape.ic, size, &weights, Some(&bias), kernel)?,
            };
            count(shape, numbers, noise, Layer::Depthwise(&packed))?;
            kernel.info()
        }
        "spatial" => {
            let (kept, density) = match arg(2, "5:9").strip_prefix("5:9") {
                None if arg(2, "5:9") == "dense" => (9, 1.0),
                Some("") => (4, 1.0),
                Some(share) if share.starts_with(':') => (4, share[1..].parse::<f64>()?),
                _ => return Err(format!("{:?} is not dense, 5:9 or 5:9:DENSITY", arg(2, "5:9")).into()),
            };
            let shape = layer(arg(1, "64x8"), 3, false)?;
            let connected = groups(shape.oc, shape.ic, FormatKind::ROWS_4, density, noise);
            let mut weights = noise.values(shape.oc * shape.ic * 9);
            for (i, weight) in weights.iter_mut().enumerate() {
                let (oc, ic, tap) = (i / 9 / shape.ic, i / 9 % shape.ic, i % 9);
                let kernel = density == 1.0 || connected[oc * shape.ic + ic] != 0.0;
                if kept < 9 && !(kernel && keeps(oc / 4 * 3 + ic, tap, kept)) {
                    *weight = 0.0;
                }
            }
            let bias = noise.values(shape.oc);
            let format = FormatKind::SPATIAL.into_iter().find(|f| f.to_string() == arg(5, "4x1"));
            let format = format.ok_or_else(|| format!("no spatial format is called {:?}", arg(5, "")))?;
            let kernel = match numbers {
                Numbers::F32 => table::spatial(target, format),
                Numbers::Half(half) => table::spatial_half(half, format).ok_or("no such kernel")?,
                Numbers::Int8(int8) => table::spatial_int8(int8, format),
            };
            let packed = match numbers {
                Numbers::Int8(_) => PackedSpatial::from_groups_int8(
                    [shape.oc, shape.ic, 1],
                    [3, 3],
                    &whole(&weights),
                    &quantised(shape.oc)?,
                    kernel,
                )?,
                _ => PackedSpatial::from_dense(shape.oc, shape.ic, [3, 3], &weights, Some(&bias), kernel)?,
            };
            count(shape, numbers, noise, Layer::Spatial(&packed))?;
            println!("weights stored: {} of {}", packed.stored(), weights.len());
            kernel.info()
        }
        "pack" => {
            let shape = layer(arg(1, "32x112"), 1, false)?;
            let pixels = shape.input[0] * shape.input[1];
            let (planes, sizes) = (noise.values(shape.ic * pixels), [1, shape.ic, pixels]);
            let mut lanes = vec![0; shape.ic.div_ceil(numbers.element().per_lane()) * pixels];
            match numbers {
                Numbers::F32 => return Err("pairs are of f16 or bf16, quads of int8".into()),
                Numbers::Half(half) => twice(&planes, &mut lanes, |x, y| pairs::pack(half, sizes, x, y))?,
                Numbers::Int8(int8) => {
                    let affine = affine()?;
                    twice(&planes, &mut lanes, |x, y| quads::quantize(int8.target(), sizes, x, affine, y))?;
                }
            }
            println!("rounded to {}: {}", numbers.element().name(), args.join(" "));
            return Ok(());
        }
        other => return Err(format!("{other:?} is not pointwise, depthwise, spatial or pack").into()),
    };
    println!("{}: {}", kernel.name, args.join(" "));
    Ok(())
}
