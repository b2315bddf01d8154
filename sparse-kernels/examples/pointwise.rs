//! Times the pointwise kernels of this machine on layers of MobileNet-v1 and v2, against the machine's own
//! peak.
//!
//! ```text
//! cargo run --release -p tract-sparse-kernels --example pointwise -- [format [density [layer]]] [--target NAME]
//! ```
//! Prints, per layer, format and density: milliseconds, 10^9 multiply-adds on stored weights a second, and
//! the share of the multiply-add peak, which is measured right before and after every round because clocks
//! drift. All are medians.

mod layers;

use layers::{LAYERS, median};
use noise::Noise;
use sparse_kernels::doctor::peak::multiply_adds_per_second;
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
    let wanted = |i: usize, value: &str| args.get(i).is_none_or(|a| a == "all" || a == value);
    let peak = || multiply_adds_per_second(target);
    println!("{target}: peak {:.1} GMAC/s", median(&mut (0..200).map(|_| peak() / 1e9).collect::<Vec<_>>()));
    println!("{:<16} {:>12} {:>7} {:>9} {:>8} {:>6}", "layer", "format", "density", "ms", "GMAC/s", "peak");
    for format in [FormatKind::BLOCKS_4X4, FormatKind::ROWS_4, FormatKind::ROWS_2, FormatKind::ROWS_1] {
        let densities: &[f64] =
            if format == FormatKind::BLOCKS_4X4 { &[1.0, 0.7, 0.5, 0.2, 0.1] } else { &[1.0, 0.5, 0.2, 0.1] };
        for density in densities.iter().filter(|d| wanted(1, &d.to_string())) {
            if !wanted(0, &format.to_string()) {
                continue;
            }
            let (mut total, mut ideal) = (0.0, 0.0);
            for (name, ic, oc, hw) in LAYERS {
                if !args.get(2).is_none_or(|a| name.contains(a.as_str())) {
                    continue;
                }
                let kernel = table::pointwise(target, format);
                let mut noise = Noise::new(1);
                let mut weights = vec![0f32; oc * ic];
                for row in (0..oc).step_by(format.r()) {
                    for column in (0..ic).step_by(format.c()) {
                        if noise.share() as f64 <= *density {
                            for r in row..oc.min(row + format.r()) {
                                weights[r * ic..][column..ic.min(column + format.c())].fill(noise.share());
                            }
                        }
                    }
                }
                let packed = PackedPointwise::from_dense(oc, ic, &weights, Some(&vec![0.1; oc]), kernel)?;
                let geometry = ConvGeometry::new(ConvShape::square(ic, oc, hw, 1, 1, 0))?;
                let x: Vec<f32> = (0..geometry.x_len()).map(|_| noise.share()).collect();
                let mut y = vec![0f32; geometry.y_len()];
                let epilogue = Epilogue::activation(Activation::RELU6);
                let begin = Instant::now();
                let macs = (packed.stored() * geometry.output_pixels()) as f64;
                let (mut times, mut shares) = (vec![], vec![]);
                while times.len() < 7 || begin.elapsed() < Duration::from_millis(60) {
                    let before = peak();
                    let start = Instant::now();
                    packed.run(&geometry, black_box(&x), black_box(&mut y), None, &epilogue, &Serial)?;
                    let seconds = start.elapsed().as_secs_f64();
                    times.push(seconds);
                    shares.push(macs / seconds / ((before + peak()) / 2.0));
                }
                let (seconds, share) = (median(&mut times), median(&mut shares));
                println!(
                    "{name:<16} {format:>12} {density:>7} {:>9.4} {:>8.1} {:>5.1}%",
                    seconds * 1e3,
                    macs / seconds / 1e9,
                    100.0 * share,
                );
                if name.starts_with("v1") {
                    total += seconds * 1e3;
                    // What the layer would take at the peak of the moment.
                    ideal += seconds * 1e3 * share;
                }
            }
            if total > 0.0 {
                println!(
                    "{:<16} {format:>12} {density:>7} {total:>9.4} {:>8} {:>5.1}%",
                    "v1 all",
                    "",
                    100.0 * ideal / total
                );
            }
        }
    }
    Ok(())
}
