//! The command line: tract's word order, `tract-sparse [options] MODEL [options] SUB [options]`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something failed: a file, a model, a shape; one line on stderr says what
  2  the command line is wrong
  3  compare: the outputs differ";

const EXAMPLES: &str = "\
Examples:
  tract-sparse bench                             how fast, with no model at hand
  tract-sparse zoo mobilenet-v1 --conv1x1 4x4:0.5 -o m.onnx
  tract-sparse m.onnx inspect                    what runs sparse, and why not
  tract-sparse m.onnx bench --against stock
  tract-sparse m.onnx compare
  tract-sparse m.onnx -O dump --profile --cost
  tract-sparse m.onnx run --input x.npy --save-outputs y.npz

A file called like a command is given as ./bench.
";

/// Runs pruned ONNX networks on sparse kernels inside tract.
#[derive(Debug, Parser)]
#[command(name = "tract-sparse", version, after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
#[command(disable_help_subcommand = true, next_line_help = true)]
pub(crate) struct Cli {
    /// ONNX file
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What may stand before or after the command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Options {
    /// Take the model to tract's last stage, as --pass optimize
    #[arg(short = 'O', long, global = true, conflicts_with = "pass")]
    pub(crate) optimize: bool,
    /// Stop at type, declutter (default of dump, inspect) or optimize
    #[arg(long, global = true, value_name = "STAGE", hide_possible_values = true)]
    pub(crate) pass: Option<Pass>,
    /// Threads; 0 means one for every core
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Shape and type of an input: 1,3,224,224,f32 or name:1,3,224,224,f32
    #[arg(short = 'i', long = "input-facts", global = true, value_name = "FACT", allow_hyphen_values = true)]
    pub(crate) facts: Vec<String>,
    /// Value of a symbol, as in N=1
    #[arg(long, global = true, value_name = "SYMBOL=VALUE")]
    pub(crate) set: Vec<String>,
    /// Run layers sparse: auto, measure, always, never [TRACT_SPARSE]
    #[arg(long, global = true, value_name = "WHEN")]
    pub(crate) sparse: Option<String>,
    /// auto, scalar, avx2, avx512, neon, wasm [TRACT_SPARSE_TARGET]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// Predicted gain below which a layer stays stock [TRACT_SPARSE_MIN_GAIN]
    #[arg(long, global = true, value_name = "RATIO")]
    pub(crate) min_gain: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Stages of a model in tract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pass {
    /// Types and shapes known
    Type,
    /// Simplified
    Declutter,
    /// Lowered to this machine
    Optimize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a built-in network with random weights as ONNX
    #[command(
        after_help = "Example:\n  tract-sparse zoo mobilenet-v1 --conv1x1 4x4:0.5 --dwconv3x3 3:9 -o m.onnx"
    )]
    Zoo(Zoo),
    /// Say what runs each layer, and why the others stay stock
    #[command(
        after_help = "Examples:\n  tract-sparse m.onnx inspect\n  tract-sparse m.onnx --sparse measure inspect"
    )]
    Inspect,
    /// Time a model; without one, the built-in network
    #[command(after_help = "\
Examples:
  tract-sparse bench
  tract-sparse m.onnx bench --against stock --json
  tract-sparse m.onnx --threads 2 bench --max-time 10000

Stock and sparse run in turn in one process. Times are medians with the
quartiles beside them; the ratio is the median of the ratios of neighbouring
runs, which drifting clocks disturb least.")]
    Bench(Bench),
    /// Run a model stock and sparse, and fail if they differ
    #[command(after_help = "\
Examples:
  tract-sparse m.onnx compare
  tract-sparse m.onnx compare --input x.npy --tolerance 1e-3 --cumulative

Values agree if they differ by at most T times the largest value of the stock
tensor (plus T/100). The default of 1e-4 leaves room for what another order of
f32 additions does over a hundred layers, and none for a wrong weight. Exit
code 3 if they differ.")]
    Compare(Compare),
    /// Run a model once and show or save its outputs
    #[command(after_help = "Example:\n  tract-sparse m.onnx run --input x.npy --save-outputs y.npz")]
    Run(Run),
    /// Print the nodes of the sparse model as tract's own dump does
    #[command(after_help = "Example:\n  tract-sparse m.onnx -O dump --profile --cost")]
    Dump(Dump),
}

#[derive(Debug, Args)]
pub(crate) struct Zoo {
    /// mobilenet-v1, -v2, -v3-large, efficientnet-lite0, resnet-18 or -20
    pub(crate) network: zoo::Network,
    /// Zeros of 1x1 convolutions: 4x4:R, 4x1:R (or 2, 8), unstructured:R
    #[arg(long, value_name = "SPEC")]
    pub(crate) conv1x1: Option<zoo::Pointwise>,
    /// Patterns of depthwise 3x3 convolutions: 3:9
    #[arg(long, value_name = "SPEC")]
    pub(crate) dwconv3x3: Option<zoo::DwConv3x3>,
    /// Patterns of 3x3 convolutions: 5:9 or 5:9:CONNECTIVITY
    #[arg(long, value_name = "SPEC")]
    pub(crate) conv3x3: Option<zoo::Conv3x3>,
    /// Zeros of the fully connected layers, as --conv1x1
    #[arg(long, value_name = "SPEC")]
    pub(crate) fc: Option<zoo::Pointwise>,
    /// Seed of the weights
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Images at a time, or a symbol such as N
    #[arg(long, default_value_t = zoo::Batch::Fixed(1))]
    pub(crate) batch: zoo::Batch,
    /// Height and width of the input [default: the network's]
    #[arg(long)]
    pub(crate) hw: Option<usize>,
    /// Channel multiplier
    #[arg(long, default_value_t = 1.0)]
    pub(crate) width: f64,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// Where inputs come from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Input {
    /// .npy file, once for each input, or one .npz [default: seeded random]
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Vec<PathBuf>,
    /// Seed of random inputs
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// How long to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Limits {
    /// Runs at most
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) max_loops: usize,
    /// Milliseconds at most [default: 5000; without a model 2000 a row]
    #[arg(long, value_name = "MS")]
    pub(crate) max_time: Option<u64>,
    /// Runs before the first that counts
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) warmup_loops: usize,
    /// Milliseconds of such runs
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) warmup_time: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Time this too, in turn
    #[arg(long)]
    pub(crate) against: Option<Against>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) input: Input,
    /// Without a model: the network [default: mobilenet-v1]
    #[arg(long)]
    pub(crate) network: Option<zoo::Network>,
    /// Without a model: the format of 1x1 convolutions [default: 4x4]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Without a model: patterns of depthwise 3x3 convolutions, 3:9
    #[arg(long, value_name = "SPEC")]
    pub(crate) dwconv3x3: Option<zoo::DwConv3x3>,
}

/// What to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    /// tract without sparse kernels
    Stock,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    pub(crate) input: Input,
    /// T of the rule below
    #[arg(long, value_name = "T", default_value_t = 1e-4, allow_negative_numbers = true)]
    pub(crate) tolerance: f64,
    /// Compare every node, not only the outputs
    #[arg(long)]
    pub(crate) cumulative: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) input: Input,
    /// .npz file for the outputs
    #[arg(long, value_name = "FILE")]
    pub(crate) save_outputs: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// Time every node
    #[arg(long)]
    pub(crate) profile: bool,
    /// Count multiplications, nonzero ones for sparse layers
    #[arg(long)]
    pub(crate) cost: bool,
    /// Show what the operators say about themselves
    #[arg(long)]
    pub(crate) info: bool,
    /// Show constants too
    #[arg(long = "const")]
    pub(crate) konst: bool,
    /// Show inputs, outputs and counts of operators only
    #[arg(long)]
    pub(crate) summary: bool,
    /// Only nodes whose name begins so
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Only nodes whose operator begins so
    #[arg(long, value_name = "OP")]
    pub(crate) op_name: Option<String>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) input: Input,
}
