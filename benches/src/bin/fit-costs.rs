//! Measures our kernels and stock tract's operators over many shapes and fits the constants by which the rewriter
//! predicts times (`rewriter/src/costs`).
//!
//! Pin it to one idle core: `taskset -c 1 cargo run --release --bin fit-costs -- --output rewriter/src/costs/avx2.txt`
//!
//! WebAssembly is measured in Node, which names no machine and opens no file:
//!
//! ```sh
//! RUSTFLAGS="-C target-feature=+simd128" taskset -c 1 cargo run --release --target wasm32-wasip1 \
//!     --bin fit-costs -- --machine "AMD EPYC (Zen 4), Node 20" > rewriter/src/costs/wasm.txt
//! ```

use anyhow::{Context, Result};
use benches::Noise;
use clap::Parser;
use rewriter::analyse::LayerShape;
use rewriter::costs::{Cost, Key, Work};
use rewriter::measure::stock_plan;
use sparse_kernels::depthwise::PackedDepthwise;
use sparse_kernels::format::{DepthwisePatterns, FormatKind, stats};
use sparse_kernels::machine::Machine;
use sparse_kernels::prelude::*;
use sparse_kernels::spatial::PackedSpatial;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;
use tract_core::internal::*;
use tract_sparse::TRACT_VERSION;

/// Measure kernels and stock operators, fit the cost table of one target.
#[derive(Parser)]
struct Args {
    /// Target to fit; the best of this machine if not given.
    #[arg(long, default_value = "auto")]
    target: String,
    /// Where to write the table; standard output if not given.
    #[arg(long)]
    output: Option<std::path::PathBuf>,
    /// What the machine is, if the system does not say.
    #[arg(long)]
    machine: Option<String>,
}

/// One measured layer.
struct Sample {
    work: Work,
    ns: f64,
}

type Samples = BTreeMap<String, Vec<Sample>>;

fn main() -> Result<()> {
    let args = Args::parse();
    let target = Target::named(&args.target)?;
    let mut samples = Samples::new();
    for layer in layers() {
        eprintln!("{layer:?}");
        layer.measure(target, &mut samples)?;
    }
    let mut text = format!(
        "# Cost table of {target}, fitted by `cargo run --release --bin fit-costs`.\n\
         # Machine: {}. Stock: tract {TRACT_VERSION}.\n\
         # key, then nanoseconds: per 1000 multiply-adds, per row, per 1000 inputs, per call.\n\
         # behind #: layers measured, median and largest deviation of the fit.\n",
        args.machine.unwrap_or_else(|| Machine::detect().cpu)
    );
    for (key, samples) in &samples {
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
    match args.output {
        None => print!("{text}"),
        Some(path) => {
            let aside = path.with_extension("txt.new");
            std::fs::write(&aside, text).with_context(|| format!("writing {}", aside.display()))?;
            std::fs::rename(&aside, &path).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}

/// A layer to be measured in several formats and densities.
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

impl Layer {
    fn measure(&self, target: Target, samples: &mut Samples) -> Result<()> {
        let pad = self.kernel / 2;
        let geometry = ConvGeometry::new(ConvShape {
            group: if self.depthwise { self.ic } else { 1 },
            ..ConvShape::square(self.ic, self.oc, self.hw, self.kernel, self.stride, pad)
        })?;
        let shape = LayerShape {
            oc: self.oc,
            ic: self.ic,
            group: geometry.shape().group,
            kernel: tvec!(self.kernel; 2),
            stride: tvec!(self.stride; 2),
            dilation: tvec!(1; 2),
            input: Some(tvec!(self.hw; 2)),
            planar: true,
            pixels: Some(geometry.output_pixels()),
            output: Some(geometry.output().as_slice().into()),
        };
        let mut noise = Noise::new(1);
        let x = noise.vec(geometry.x_len());
        let mut y = vec![0f32; geometry.y_len()];
        let epilogue = Epilogue::activation(Activation::RELU6);
        let densities: &[f64] = if self.depthwise { &[1.0] } else { &[1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05] };
        for density in densities {
            if self.depthwise {
                for three_of_nine in [false, true] {
                    if three_of_nine && self.kernel != 3 {
                        continue;
                    }
                    let mut weights = noise.vec(shape.weights());
                    if three_of_nine {
                        for taps in weights.chunks_exact_mut(9) {
                            [0, 5, 6].into_iter().for_each(|t| taps[t] = 0.0);
                        }
                    }
                    let Some(kernel) = table::depthwise(target, [self.kernel; 2]) else { continue };
                    let packed =
                        PackedDepthwise::from_dense(self.oc, [self.kernel; 2], &weights, None, kernel)?;
                    let stored = DepthwisePatterns::from_dense(self.oc, [self.kernel; 2], &weights)?.stored();
                    let ns = time(|| packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial))?;
                    let work = Work::depthwise(kernel.vector(), &shape, stored);
                    add(samples, Key::Depthwise(self.stride), work, ns);
                }
            } else if self.kernel == 1 {
                for format in FormatKind::POINTWISE {
                    let weights = noise.blocks(self.oc, self.ic, format, *density);
                    let kernel = table::pointwise(target, format);
                    let packed = PackedPointwise::from_dense(self.oc, self.ic, &weights, None, kernel)?;
                    let ns = time(|| packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial))?;
                    let stats = stats(format, self.oc, self.ic, &weights)?;
                    let work = Work::pointwise(kernel.info(), kernel.vector(), &shape, &stats);
                    add(samples, Key::pointwise(format, &shape), work, ns);
                }
            } else {
                for format in [FormatKind::ROWS_1, FormatKind::ROWS_2, FormatKind::ROWS_4] {
                    let cols = self.ic * self.kernel * self.kernel;
                    let weights = noise.blocks(self.oc, cols, format, *density);
                    let kernel = table::spatial(target, format);
                    let taps = [self.kernel; 2];
                    let packed = PackedSpatial::from_dense(self.oc, self.ic, taps, &weights, None, kernel)?;
                    let ns = time(|| packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial))?;
                    let stats = stats(format, self.oc, cols, &weights)?;
                    let work = Work::spatial(kernel.info(), kernel.vector(), &shape, &stats);
                    add(samples, Key::Spatial(format), work, ns);
                }
            }
        }
        let key = match (self.depthwise, self.kernel) {
            (true, _) => Key::StockDepthwise(self.stride),
            (false, 1) => Key::StockPointwise(self.hw == 1),
            (false, _) => Key::StockSpatial,
        };
        let stock = stock_plan(&shape, &geometry, &noise.vec(shape.weights()))?;
        let x = Tensor::from_shape(&[1, self.ic, self.hw, self.hw], &x)?.into_tvalue();
        let mut state = stock.spawn()?;
        let ns = time(|| state.run(tvec!(x.clone())))?;
        add(samples, key, Work::stock(&shape), ns);
        Ok(())
    }
}

fn add(samples: &mut Samples, key: Key, work: Work, ns: f64) {
    samples.entry(key.name()).or_default().push(Sample { work, ns });
}

/// Nanoseconds of one call: the lower quartile of at least nine, a few milliseconds in all. (What disturbs a run only ever
/// makes it longer.)
fn time<T, E>(mut run: impl FnMut() -> Result<T, E>) -> Result<f64, E> {
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
