//! The command line: tract's word order, `tract-sparse [options] MODEL [options] SUB [options]`.

mod bench;
mod compare;
mod dump;
mod input;
mod run;
mod zoo;

pub(crate) use bench::{Against, Bench, Limits};
pub(crate) use compare::Compare;
pub(crate) use dump::Dump;
pub(crate) use input::Input;
pub(crate) use run::Run;
pub(crate) use zoo::Zoo;

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
    /// ONNX file, or NNEF archive (.nnef.tgz, .nnef.tar)
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
    /// Make the weights of a model sparse, and write it as plain ONNX
    #[command(after_help = "\
Examples:
  tract-sparse m.onnx prune --ratio 0.5 -o pruned.onnx
  tract-sparse m.onnx prune --ratio 0.3 --rearrange --calibrate x/ -o p.onnx
  tract-sparse m.onnx prune --speedup 1.5 -o pruned.onnx

Depthwise 3x3 layers get 3:9 patterns, 3x3 layers 5:9 ones; see --dwconv3x3 and
--conv3x3. The recipe is kept in the metadata of the file.")]
    Prune(Box<crate::prune_command::Prune>),
    /// Write a model as NNEF, without the zeros of its weights
    #[command(after_help = "\
Examples:
  tract-sparse pruned.onnx convert -o pruned.nnef.tgz
  tract-sparse pruned.onnx convert --plain -o pruned.nnef.tar

Every command reads such a file. A tract without the extension tract_sparse
refuses it by that name; --plain writes what any tract reads. Where compact
weights would save nothing, that is written anyway.")]
    Convert(crate::convert::Convert),
    /// Print the nodes of the sparse model as tract's own dump does
    #[command(after_help = "Example:\n  tract-sparse m.onnx -O dump --profile --cost")]
    Dump(Dump),
}
