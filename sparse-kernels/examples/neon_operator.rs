//! One layer between two marks, for tools that count the instructions of an aarch64 program.
//!
//! ```text
//! neon_operator OPERATOR LAYER WEIGHTS [TARGET [TYPE]]       for example: neon_operator pointwise 256x28 4x4:0.5 neon-a53
//! ```
//! OPERATOR is pointwise, depthwise or spatial; or pack, which rounds planes to pairs, whatever WEIGHTS say.
//! LAYER is CHANNELSxSIDE, INxOUTxSIDE or either with /STRIDE: a square map, in f32 or, if TYPE is f16 or
//! bf16, in pairs of that, with bias and ReLU6. WEIGHTS are
//!
//! * pointwise: FORMAT:DENSITY, where DENSITY is the share of weight groups that is kept, of all layer,
//!   exactly;
//! * depthwise: `dense` and `5x5`, with all taps, or `3:9`, a pattern for every 16 channels, six taps kept;
//! * spatial, 3x3: `dense`, or `5:9`, a pattern for every four output channels of an input channel, four taps
//!   kept.
//!
//! Between the marks is a single run, after one that warms up. `scripts/neon-cost.sh` prints tables from it.

use noise::Noise;
use sparse_kernels::chain::{Layer, Stage};
use sparse_kernels::doctor::marks;
use sparse_kernels::pairs;
use sparse_kernels::prelude::*;
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
fn count(
    shape: ConvShape,
    half: Option<Half>,
    noise: &mut Noise,
    layer: Layer,
) -> Result<(), Box<dyn Error>> {
    let geometry = ConvGeometry::new(shape)?;
    let epilogue = Epilogue::activation(Activation::RELU6);
    let stage = Stage { layer, geometry, epilogue };
    let x = noise.values(geometry.x_len());
    let Some(half) = half else {
        let mut y = vec![0f32; geometry.y_len()];
        return twice(&x, &mut y, |x, y| stage.run(x, y, None, &Serial));
    };
    let (s, of_pairs) = (geometry.shape(), |channels: usize| channels.div_ceil(2));
    let mut lanes = vec![0; s.batch * of_pairs(s.ic) * geometry.input_pixels()];
    pairs::pack(half, [s.batch, s.ic, geometry.input_pixels()], &x, &mut lanes)?;
    let mut y = vec![0; s.batch * of_pairs(s.oc) * geometry.output_pixels()];
    twice(&lanes, &mut y, |x, y| stage.run_pairs(x, y, None, &Serial))
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
    let half = match arg(4, Element::F32.name()) {
        name if name == Element::F32.name() => None,
        name => {
            let half = target.halves().find(|half| half.element().name() == name);
            Some(half.ok_or_else(|| format!("{target} has no kernels for {name}"))?)
        }
    };
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
            let kernel = half
                .map_or_else(|| table::pointwise(target, format), |half| table::pointwise_half(half, format));
            let bias = noise.values(shape.oc);
            let packed = PackedPointwise::from_dense(shape.oc, shape.ic, &weights, Some(&bias), kernel)?;
            count(shape, half, noise, Layer::Pointwise(&packed))?;
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
            let kernel = half
                .map_or_else(|| table::depthwise(target, size), |half| table::depthwise_half(half, size))
                .ok_or("no such kernel")?;
            let packed = PackedDepthwise::from_dense(shape.ic, size, &weights, Some(&bias), kernel)?;
            count(shape, half, noise, Layer::Depthwise(&packed))?;
            kernel.info()
        }
        "spatial" => {
            let kept = match arg(2, "5:9") {
                "dense" => 9,
                "5:9" => 4,
                other => return Err(format!("{other:?} is not dense or 5:9").into()),
            };
            let shape = layer(arg(1, "64x8"), 3, false)?;
            let mut weights = noise.values(shape.oc * shape.ic * 9);
            for (i, weight) in weights.iter_mut().enumerate() {
                let (oc, ic, tap) = (i / 9 / shape.ic, i / 9 % shape.ic, i % 9);
                if kept < 9 && !keeps(oc / 4 * 3 + ic, tap, kept) {
                    *weight = 0.0;
                }
            }
            let (bias, kernel) = (noise.values(shape.oc), table::spatial(target, FormatKind::ROWS_4));
            let packed =
                PackedSpatial::from_dense(shape.oc, shape.ic, [3, 3], &weights, Some(&bias), kernel)?;
            count(shape, None, noise, Layer::Spatial(&packed))?;
            println!("weights stored: {} of {}", packed.stored(), weights.len());
            kernel.info()
        }
        "pack" => {
            let (shape, half) = (layer(arg(1, "32x112"), 1, false)?, half.ok_or("pairs are of f16 or bf16")?);
            let pixels = shape.input[0] * shape.input[1];
            let planes = noise.values(shape.ic * pixels);
            let mut lanes = vec![0; shape.ic.div_ceil(2) * pixels];
            twice(&planes, &mut lanes, |x, y| pairs::pack(half, [1, shape.ic, pixels], x, y))?;
            println!("rounded to {}: {}", half.element().name(), args.join(" "));
            return Ok(());
        }
        other => return Err(format!("{other:?} is not pointwise, depthwise, spatial or pack").into()),
    };
    println!("{}: {}", kernel.name, args.join(" "));
    Ok(())
}
