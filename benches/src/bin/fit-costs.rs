//! Measures our kernels and stock tract's operators over many shapes and fits the constants by which the
//! rewriter predicts times (`rewriter/src/costs`).
//!
//! Pin it to one idle core: `taskset -c 1 cargo run --release --bin fit-costs -- --output
//! rewriter/src/costs/avx2.txt`
//!
//! WebAssembly is measured in Node, which names no machine and opens no file:
//!
//! ```sh
//! RUSTFLAGS="-C target-feature=+simd128" taskset -c 1 cargo run --release --target wasm32-wasip1 \
//!     --bin fit-costs -- --machine "AMD EPYC (Zen 4), Node 20" > rewriter/src/costs/wasm.txt
//! ```
//!
//! Times can come from elsewhere: `--cases` lists what would be measured, `--case N` runs one of these
//! between two marks, for tools that count its instructions, `--samples FILE` fits times that are given.
//! `scripts/neon-cost.sh costs` does this for cores that are not at hand.

use anyhow::{Context, Result};
use clap::Parser;
use rewriter::costs::Work;
use rewriter::fit::{Ready, Sample, Samples, cases, measured, table};
use sparse_kernels::doctor::machine::Machine;
use sparse_kernels::doctor::marks;
use sparse_kernels::prelude::Target;
use std::io::IsTerminal;

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
    /// Run one case, and once more between the marks that counting tools look for; print it as `--samples`
    /// wants it.
    #[arg(long, value_name = "NUMBER", conflicts_with = "cases")]
    case: Option<usize>,
    /// Measure only what is in lines whose key begins with this, as in `half/`.
    #[arg(long, value_name = "PREFIX", default_value = "", conflicts_with_all = ["cases", "case", "samples"])]
    only: String,
    /// Fit this instead of measuring: lines of a key, the three counts of the work, and nanoseconds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cases", "case"])]
    samples: Option<std::path::PathBuf>,
}

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
    let (target, samples) = match &args.samples {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            (args.target.clone(), given(&text).with_context(|| format!("reading {}", path.display()))?)
        }
        None => {
            let target = Target::named(&args.target)?;
            let watched = std::io::stderr().is_terminal();
            let progress = &mut |done, all| {
                if watched {
                    eprint!("\r{done} of {all}");
                }
            };
            (target.to_string(), measured(target, &args.only, progress)?)
        }
    };
    let machine = args.machine.unwrap_or_else(|| Machine::detect().cpu);
    let text = table(&target, &machine, &args.command, &samples)?;
    match args.output {
        None => print!("{text}"),
        Some(path) => onnx_file::file::write(&path, text.as_bytes())?,
    }
    Ok(())
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
