//! Times kernels of half precision beside those of single precision, in turn, on layers of networks.
//!
//! ```text
//! cargo run --release -p tract-sparse-kernels --example half -- [format [density [layer]]] [--target NAME]
//! ```
//! Prints, per layer, format and density: milliseconds of both, how many times as fast half precision is, its 10^9
//! multiply-adds on stored weights a second, and their share of its peak, which is measured beside. All are medians.

mod layers;

use layers::{LAYERS, median};
use noise::Noise;
use sparse_kernels::doctor::peak::{half_multiply_adds_per_second, multiply_adds_per_second};
use sparse_kernels::prelude::*;
use std::hint::black_box;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let mut target = Target::detect();
    if let Some(at) = args.iter().position(|a| a == "--target") {
        target = Target::named(args.get(at + 1).ok_or("--target needs a name")?)?;
        args.drain(at..at + 2);
    }
    let half = target.half().ok_or("this target has no half precision")?;
    let wanted = |i: usize, value: &str| args.get(i).is_none_or(|a| a == "all" || a == value);
    let peaks = || (multiply_adds_per_second(target), half_multiply_adds_per_second(half));
    let (mut single, mut double): (Vec<f64>, Vec<f64>) = (0..200).map(|_| peaks()).unzip();
    println!("{target}: peak {:.1} and {:.1} GMAC/s", median(&mut single) / 1e9, median(&mut double) / 1e9);
    println!(
        "{:<16} {:>12} {:>7} {:>9} {:>9} {:>6} {:>8} {:>6}",
        "layer", "format", "density", "f32", "half", "times", "GMAC/s", "peak"
    );
    let formats = [
        FormatKind::BLOCKS_4X4,
        FormatKind::ROWS_4,
        FormatKind::BLOCKS_2X2,
        FormatKind::ROWS_2,
        FormatKind::BLOCKS_1X2,
        FormatKind::ROWS_1,
    ];
    for format in formats.into_iter().filter(|format| wanted(0, &format.to_string())) {
        for density in [1.0, 0.7, 0.5, 0.2, 0.1].into_iter().filter(|d: &f64| wanted(1, &d.to_string())) {
            let mut totals = [0.0; 3];
            for (name, ic, oc, hw) in
                LAYERS.into_iter().filter(|l| args.get(2).is_none_or(|a| l.0.contains(a)))
            {
                let weights = Noise::new(1).blocks(oc, ic, (format.r(), format.c()), density);
                let single = match format {
                    FormatKind::BLOCKS_2X2 => FormatKind::ROWS_2,
                    FormatKind::BLOCKS_1X2 => FormatKind::ROWS_1,
                    other => other,
                };
                let bias = vec![0.1; oc];
                let single = table::pointwise(target, single);
                let single = PackedPointwise::from_dense(oc, ic, &weights, Some(&bias), single)?;
                let double = table::pointwise_half(half, format);
                let double = PackedPointwise::from_dense(oc, ic, &weights, Some(&bias), double)?;
                let geometry = ConvGeometry::new(ConvShape::square(ic, oc, hw, 1, 1, 0))?;
                let x: Vec<f32> = Noise::new(2).values(geometry.x_len());
                let mut y = vec![0f32; geometry.y_len()];
                let mut lanes = vec![0; ic.div_ceil(2) * hw * hw];
                sparse_kernels::pairs::pack(target, [1, ic, hw * hw], &x, &mut lanes)?;
                let mut y_lanes = vec![0; oc.div_ceil(2) * hw * hw];
                let epilogue = Epilogue::activation(Activation::RELU6);
                let begin = Instant::now();
                let macs = (single.stored() * geometry.output_pixels()) as f64;
                let (mut times, mut half_times, mut shares) = (vec![], vec![], vec![]);
                while times.len() < 7 || begin.elapsed() < Duration::from_millis(100) {
                    let start = Instant::now();
                    single.run(&geometry, black_box(&x), black_box(&mut y), None, &epilogue, &Serial)?;
                    times.push(start.elapsed().as_secs_f64());
                    let before = half_multiply_adds_per_second(half);
                    let start = Instant::now();
                    double.run_pairs(
                        &geometry,
                        black_box(&lanes),
                        black_box(&mut y_lanes),
                        None,
                        &epilogue,
                        &Serial,
                    )?;
                    let seconds = start.elapsed().as_secs_f64();
                    half_times.push(seconds);
                    shares.push(macs / seconds / ((before + half_multiply_adds_per_second(half)) / 2.0));
                }
                let (f32, bf16, share) = (median(&mut times), median(&mut half_times), median(&mut shares));
                println!(
                    "{name:<16} {format:>12} {density:>7} {:>9.4} {:>9.4} {:>6.2} {:>8.1} {:>5.1}%",
                    f32 * 1e3,
                    bf16 * 1e3,
                    f32 / bf16,
                    macs / bf16 / 1e9,
                    100.0 * share,
                );
                if name.starts_with("v1") {
                    totals[0] += f32 * 1e3;
                    totals[1] += bf16 * 1e3;
                    // what the layer would take at the peak of the moment
                    totals[2] += bf16 * 1e3 * share;
                }
            }
            if let [f32, bf16, ideal] = totals
                && bf16 > 0.0
            {
                println!(
                    "{:<16} {format:>12} {density:>7} {f32:>9.4} {bf16:>9.4} {:>6.2} {:>8} {:>5.1}%",
                    "v1 all",
                    f32 / bf16,
                    "",
                    100.0 * ideal / bf16
                );
            }
        }
    }
    Ok(())
}
