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
//!
//! Times can come from elsewhere: `--cases` lists what would be measured, `--case N` runs one of these between two marks, for tools
//! that count its instructions, `--samples FILE` fits times that are given. `scripts/neon-cost.sh costs` does this
//! for cores that are not at hand.

use anyhow::{Context, Result};
use benches::Noise;
use clap::Parser;
use rewriter::analyse::LayerShape;
use rewriter::costs::{Cost, Key, Work};
use rewriter::measure::stock_plan;
use sparse_kernels::depthwise::PackedDepthwise;
use sparse_kernels::format::{DepthwisePatterns, FormatKind, stats};
use sparse_kernels::machine::Machine;
use sparse_kernels::marks;
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
    /// What made the table, for its header.
    #[arg(long, default_value = "cargo run --release --bin fit-costs")]
    command: String,
    /// Print what would be measured: number, key, multiply-adds of the stored weights in thousands.
    #[arg(long)]
    cases: bool,
    /// Run one case, and once more between the marks that counting tools look for; print it as `--samples` wants it.
    #[arg(long, value_name = "NUMBER", conflicts_with = "cases")]
    case: Option<usize>,
    /// Fit this instead of measuring: lines of a key, the three counts of the work, and nanoseconds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cases", "case"])]
    samples: Option<std::path::PathBuf>,
}

/// One measured layer.
struct Sample {
    work: Work,
    ns: f64,
}

type Samples = BTreeMap<String, Vec<Sample>>;

fn main() -> Result<()> {
    let args = Args::parse();
    let all = cases();
    if args.cases {
        let target = Target::named(&args.target)?;
        for (number, case) in all.iter().enumerate() {
            if let Some(Ready { key, work, .. }) = case.prepare(target)? {
                println!("{number} {} {:.0}", key.name(), work.macs / 1e3);
            }
        }
        return Ok(());
    }
    if let Some(number) = args.case {
        let case = all.get(number).with_context(|| format!("there are {} cases", all.len()))?;
        let ready = case.prepare(Target::named(&args.target)?)?;
        let Ready { key, work, mut run } = ready.with_context(|| format!("no kernel for case {number}"))?;
        run()?;
        marks::begin();
        run()?;
        marks::end();
        println!("{} {} {} {}", key.name(), work.macs, work.rows, work.inputs);
        return Ok(());
    }
    let samples = match &args.samples {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            given(&text).with_context(|| format!("reading {}", path.display()))?
        }
        None => measured(&all, Target::named(&args.target)?)?,
    };
    let mut text = format!(
        "# Cost table of {}, fitted by `{}`.\n\
         # Machine: {}. Stock: tract {TRACT_VERSION}.\n\
         # key, then nanoseconds: per 1000 multiply-adds, per row, per 1000 inputs, per call.\n\
         # behind #: layers measured, median and largest deviation of the fit.\n",
        if args.samples.is_some() { args.target.clone() } else { Target::named(&args.target)?.to_string() },
        args.command,
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
        Some(path) => onnx_file::file::write(&path, text.as_bytes())?,
    }
    Ok(())
}

/// Times every case.
fn measured(cases: &[Case], target: Target) -> Result<Samples> {
    let mut samples = Samples::new();
    for case in cases {
        eprintln!("{case:?}");
        if let Some(Ready { key, work, run }) = case.prepare(target)? {
            samples.entry(key.name()).or_default().push(Sample { work, ns: time(run)? });
        }
    }
    Ok(samples)
}

/// Times from a file, whose lines are as [`Args::samples`] says.
fn given(text: &str) -> Result<Samples> {
    let mut samples = Samples::new();
    for line in text.lines() {
        let sample = || -> Option<(&str, Sample)> {
            let (key, numbers) = line.split_once(' ')?;
            let numbers: Vec<f64> =
                numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
            let [macs, rows, inputs, ns] = numbers[..] else { return None };
            Some((key, Sample { work: Work { macs, rows, inputs }, ns })).filter(|_| ns > 0.0)
        };
        let (key, sample) = sample().with_context(|| format!("line {line:?}"))?;
        samples.entry(key.into()).or_default().push(sample);
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
    /// Our depthwise kernels, all taps or six of nine.
    Taps {
        three_of_nine: bool,
    },
}

/// A layer run in one way.
#[derive(Debug)]
struct Case {
    layer: Layer,
    way: Way,
}

/// A case with its input, ready to run.
struct Ready {
    key: Key,
    work: Work,
    run: Box<dyn FnMut() -> Result<()>>,
}

fn cases() -> Vec<Case> {
    let mut all = vec![];
    for layer in layers() {
        let mut add = |way| all.push(Case { layer, way });
        if layer.depthwise {
            add(Way::Taps { three_of_nine: false });
            if layer.kernel == 3 {
                add(Way::Taps { three_of_nine: true });
            }
        } else {
            let formats: &[FormatKind] = match layer.kernel {
                1 => &FormatKind::POINTWISE,
                _ => &[FormatKind::ROWS_1, FormatKind::ROWS_2, FormatKind::ROWS_4],
            };
            for density in [1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05] {
                formats.iter().for_each(|format| add(Way::Blocks(*format, density)));
            }
        }
        add(Way::Stock);
    }
    all
}

impl Case {
    /// None if there is no kernel for it.
    fn prepare(&self, target: Target) -> Result<Option<Ready>> {
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
        let x = noise.vec(geometry.x_len());
        let mut y = vec![0f32; geometry.y_len()];
        let epilogue = Epilogue::activation(Activation::RELU6);
        let (key, work, run): (Key, Work, Box<dyn FnMut() -> Result<()>>) = match self.way {
            Way::Stock => {
                let key = match (depthwise, kernel) {
                    (true, _) => Key::StockDepthwise(stride),
                    (false, 1) => Key::StockPointwise(hw == 1),
                    (false, _) => Key::StockSpatial,
                };
                let x = Tensor::from_shape(&[1, ic, hw, hw], &x)?.into_tvalue();
                let mut state = stock_plan(&shape, &geometry, &noise.vec(shape.weights()))?.spawn()?;
                let run = move || {
                    black_box(state.run(tvec!(x.clone()))?);
                    Ok(())
                };
                (key, Work::stock(&shape), Box::new(run))
            }
            Way::Taps { three_of_nine } => {
                let mut weights = noise.vec(shape.weights());
                if three_of_nine {
                    for taps in weights.chunks_exact_mut(9) {
                        [0, 5, 6].into_iter().for_each(|t| taps[t] = 0.0);
                    }
                }
                let Some(kernel) = table::depthwise(target, taps) else { return Ok(None) };
                let packed = PackedDepthwise::from_dense(oc, taps, &weights, None, kernel)?;
                let stored = DepthwisePatterns::from_dense(oc, taps, &weights)?.stored();
                let work = Work::depthwise(kernel.vector(), &shape, stored);
                let run =
                    move || Ok(packed.run(&geometry, &x, black_box(&mut y), None, &epilogue, &Serial)?);
                (Key::Depthwise(stride), work, Box::new(run))
            }
            Way::Blocks(format, density) if kernel == 1 => {
                let weights = noise.blocks(oc, ic, format, density);
                let kernel = table::pointwise(target, format);
                let packed = PackedPointwise::from_dense(oc, ic, &weights, None, kernel)?;
                let stats = stats(format, oc, ic, &weights)?;
                let work = Work::pointwise(kernel.info(), kernel.vector(), &shape, &stats);
                let run =
                    move || Ok(packed.run(&geometry, &x, black_box(&mut y), None, &epilogue, &Serial)?);
                (Key::pointwise(format, &shape), work, Box::new(run))
            }
            Way::Blocks(format, density) => {
                let weights = noise.blocks(oc, cols, format, density);
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
