//! The command line: tract's word order, `tract-sparse [options] MODEL [options] SUB [options]`.

mod bench;
mod compare;
mod dump;
mod explain;
mod input;
mod model;
mod run;
mod shell;
mod zeros;
mod zoo;

pub(crate) use bench::{Against, Bench, Limits};
pub(crate) use compare::{Compare, TOLERANCE};
pub(crate) use dump::{Assertions, Dump, Nnef, Nodes};
pub(crate) use explain::{Fit, Inspect, Whatif};
pub(crate) use input::Input;
pub(crate) use model::OnModel;
pub(crate) use run::{Approx, Run};
pub(crate) use shell::{Completions, Man};
pub(crate) use zeros::{Settings, Zeros};
pub(crate) use zoo::Zoo;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something failed: a file, a model, a shape; one line on stderr says what
  2  the command line is wrong
  3  compare, --assert-..., doctor: something is not what it should be";

const EXAMPLES: &str = "\
Examples:
  tract-sparse bench                             how fast, with no model at hand
  tract-sparse zoo mobilenet-v1 --conv1x1 4x4:0.5 -o m.onnx
  tract-sparse m.onnx inspect                    what runs sparse, and why not
  tract-sparse m.onnx whatif --conv1x1 4x4:0.5   how fast it would be, pruned so
  tract-sparse m.onnx bench --against stock
  tract-sparse m.onnx compare
  tract-sparse m.onnx -O dump --profile --cost
  tract-sparse m.onnx run --input x.npy --save-outputs y.npz

The model stands before or behind the command. A file called like a command is
given as ./bench.
";

/// Runs pruned ONNX networks on sparse kernels inside tract.
#[derive(Debug, Parser)]
#[command(name = "tract-sparse", version, after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
#[command(next_line_help = true)]
pub(crate) struct Cli {
    /// ONNX file, or NNEF archive (.nnef.tgz, .nnef.tar)
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: Options,
    /// As -i; the name that tract gives it before the command
    #[arg(id = "fact", long = "input", value_name = "FACT", allow_hyphen_values = true, hide = true)]
    pub(crate) facts: Vec<String>,
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
    /// Stop at load, analyse, incorporate, type, declutter, before-optimize
    /// (after -t; default of dump and inspect) or optimize
    #[arg(long, global = true, value_name = "STAGE", hide_possible_values = true, verbatim_doc_comment)]
    pub(crate) pass: Option<Pass>,
    /// Apply a transform of tract, such as unsparsify; may be repeated
    #[arg(short = 't', long, global = true, value_name = "TRANSFORM")]
    pub(crate) transform: Vec<String>,
    /// Stream the model N steps at a time, along the symbol S or that named;
    /// before -t
    #[arg(long, global = true, value_name = "[SYMBOL=]N", verbatim_doc_comment)]
    pub(crate) pulse: Option<String>,
    /// Threads; 0 means one for every core
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Shape and type of an input: 1,3,224,224,f32 or name:1,3,224,224,f32
    #[arg(short = 'i', long = "input-facts", global = true, value_name = "FACT", allow_hyphen_values = true)]
    pub(crate) facts: Vec<String>,
    /// Take this node for an input; may be repeated
    #[arg(long, global = true, value_name = "NODE")]
    pub(crate) input_node: Vec<String>,
    /// Take this node for an output; may be repeated
    #[arg(long, global = true, value_name = "NODE")]
    pub(crate) output_node: Vec<String>,
    /// Ignore the shapes and types that the file gives for inner values
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) onnx_ignore_value_info: bool,
    /// Ignore the shapes of outputs in the file, as is always done here
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) onnx_ignore_output_shapes: bool,
    /// Ignore the types that the file gives for its outputs
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) onnx_ignore_output_types: bool,
    /// Inputs from a folder with input_0.pb, beside the model; run checks
    /// that the outputs are those of output_0.pb
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true, verbatim_doc_comment)]
    pub(crate) onnx_test_data_set: Option<PathBuf>,
    /// Value of a symbol, as in N=1
    #[arg(long, global = true, value_name = "SYMBOL=VALUE")]
    pub(crate) set: Vec<String>,
    /// When layers run sparse [TRACT_SPARSE]: auto, where a gain is predicted
    /// (the default); measure, where one is measured while loading; always,
    /// wherever a weight is zero; dense, as auto, in models without zeros
    /// too; never
    #[arg(long, global = true, value_name = "WHEN", verbatim_doc_comment)]
    pub(crate) sparse: Option<String>,
    /// Vector instructions of the kernels [TRACT_SPARSE_TARGET]: auto, the
    /// best of this machine (the default); scalar, avx2, avx512,
    /// avx512-wide, neon, wasm; see doctor
    #[arg(long, global = true, value_name = "NAME", verbatim_doc_comment)]
    pub(crate) target: Option<String>,
    /// Cost table that predicts [TRACT_SPARSE_COSTS]: auto, that of fit if
    /// there is one (the default); built-in; a file
    #[arg(long, global = true, value_name = "TABLE", hide_short_help = true, verbatim_doc_comment)]
    pub(crate) costs: Option<String>,
    /// How many times faster than stock a layer must be predicted to be, or
    /// else it stays stock [TRACT_SPARSE_MIN_GAIN] [default: 1.1]
    #[arg(long, global = true, value_name = "RATIO", verbatim_doc_comment)]
    pub(crate) min_gain: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// bench: print the seconds of a run alone, after "real: "
    #[arg(long, global = true, hide_short_help = true, conflicts_with = "json")]
    pub(crate) machine_friendly: bool,
    /// bench: print one JSON object a line for every metric
    #[arg(long, global = true, hide_short_help = true, conflicts_with_all = ["json", "machine_friendly"])]
    pub(crate) emit_jsonl: bool,
    /// Log to stderr what tract and the rewriter do; -vv and -vvv say more
    #[arg(short = 'v', long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Options {
    /// The stage asked for, or else `default`.
    pub(crate) fn stage(&self, default: Pass) -> Pass {
        self.pass.unwrap_or(if self.optimize { Pass::Optimize } else { default })
    }
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.to_possible_value().unwrap_or_default().get_name())
    }
}

/// Stages of a model in tract, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Pass {
    /// As it is in the file
    Load,
    /// Shapes and types worked out as far as they go
    Analyse,
    /// Operators that need to know them put in their place
    Incorporate,
    /// Types and shapes known
    Type,
    /// Simplified
    Declutter,
    /// Transformed as -t says
    BeforeOptimize,
    /// Lowered to this machine
    Optimize,
}

impl Command {
    /// The model behind the command.
    pub(crate) fn model(&self) -> Option<&PathBuf> {
        match self {
            Command::Inspect(it) => it.model.as_ref(),
            Command::Whatif(it) => it.model.as_ref(),
            Command::Bench(it) => it.model.as_ref(),
            Command::Compare(it) => it.model.as_ref(),
            Command::Run(it) => it.model.as_ref(),
            Command::Prune(it) => it.model.as_ref(),
            Command::Convert(it) => it.model.as_ref(),
            Command::Dump(it) => it.model.as_ref(),
            Command::Zoo(_)
            | Command::Doctor
            | Command::Fit(_)
            | Command::Completions(_)
            | Command::Man(_) => None,
        }
    }

    /// Where the inputs of the command come from, if it takes some.
    pub(crate) fn input_mut(&mut self) -> Option<&mut Input> {
        match self {
            Command::Bench(it) => Some(&mut it.args.input),
            Command::Compare(it) => Some(&mut it.args.input),
            Command::Run(it) => Some(&mut it.args.input),
            Command::Dump(it) => Some(&mut it.args.input),
            _ => None,
        }
    }
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
        after_help = "Examples:\n  tract-sparse m.onnx inspect\n  tract-sparse m.onnx inspect --measure\n  tract-sparse m.onnx inspect --html report.html"
    )]
    Inspect(OnModel<Inspect>),
    /// Say how fast a model would be if it were pruned
    #[command(after_help = "\
Examples:
  tract-sparse m.onnx whatif --conv1x1 4x4:0.5 --dwconv3x3 3:9
  tract-sparse m.onnx whatif --conv1x1 4x1:0.8 --measure
  tract-sparse m.onnx whatif --ratio 0.5 --conv3x3 5:9
  tract-sparse m.onnx whatif --sweep --svg curve.svg

A copy in memory is pruned by magnitude; the file stays as it is. Times are
those of the layers: what else a network does is not counted.")]
    Whatif(OnModel<Whatif>),
    /// Check the kernels of this machine: right, and how fast
    #[command(after_help = "\
Example:
  tract-sparse doctor

Takes about two seconds. Exit code 3 if a kernel is wrong.")]
    Doctor,
    /// Measure this machine, so that times are predicted for it
    #[command(after_help = "\
Examples:
  taskset -c 1 tract-sparse fit
  tract-sparse fit -o costs.txt
  TRACT_SPARSE_COSTS=costs.txt tract-sparse m.onnx inspect

Which layers run sparse is decided by predicted times, from a table fitted on a
machine of a like kind. This makes one of yours, in half a minute on an idle
core, and keeps it in your cache directory, where it is found from then on
(TRACT_SPARSE_COSTS=built-in ignores it; to forget it, delete it). inspect and
doctor say which table decides.")]
    Fit(Fit),
    /// Time a model; without one, the built-in network
    #[command(after_help = "\
Examples:
  tract-sparse bench
  tract-sparse m.onnx bench --against stock --json
  tract-sparse m.onnx --threads 2 bench --max-time 10000

Stock and sparse run in turn in one process. Times are medians with the
quartiles beside them; the ratio is the median of the ratios of runs of
neighbouring turns, which drifting clocks disturb least.")]
    Bench(OnModel<Bench>),
    /// Run a model stock and sparse, and fail if they differ
    #[command(after_help = "\
Examples:
  tract-sparse m.onnx compare
  tract-sparse m.onnx compare --input x.npy --tolerance 1e-3 --cumulative
  tract-sparse m.onnx compare --stage declutter --cumulative

Floats agree if they differ by at most T times their size and that of the values
in their row, column or channel; all else must be equal. The default of 1e-4
leaves room for what another order of f32 additions does over a hundred layers,
and none for a wrong weight. Where stock and sparse differ, a plain run of the
file without tract's optimisations says which of them is right. Exit code 3 if
they differ.")]
    Compare(OnModel<Compare>),
    /// Run a model once and show or save its outputs
    #[command(after_help = "\
Examples:
  tract-sparse m.onnx run --input x.npy --save-outputs y.npz
  tract-sparse m.onnx run --input x.npy --assert-output-bundle y.npz")]
    Run(OnModel<Run>),
    /// Make the weights of a model sparse, and write it as plain ONNX
    #[command(after_help = "\
Examples:
  tract-sparse m.onnx prune --ratio 0.5 -o pruned.onnx
  tract-sparse m.onnx prune --conv1x1 4x4:0.5 --dwconv3x3 3:9 -o pruned.onnx
  tract-sparse m.onnx prune --ratio 0.3 --rearrange --calibrate x/ -o p.onnx
  tract-sparse m.onnx prune --speedup 1.5 -o pruned.onnx

Zeros are written as inspect prints them: 4x4:0.5, unstructured:0.8, 2:4; 3:9,
3:9/8, 3:9+0.1 for depthwise 3x3 layers; 5:9, 5:9:0.5, 5:9/2 for 3x3 layers. A
ratio behind a structure goes before --ratio. The recipe is kept in the metadata
of the file.")]
    Prune(Box<OnModel<crate::prune_command::Prune>>),
    /// Write a model as NNEF, without the zeros of its weights
    #[command(after_help = "\
Examples:
  tract-sparse pruned.onnx convert -o pruned.nnef.tgz
  tract-sparse pruned.onnx convert --plain -o pruned.nnef.tar

Every command reads such a file. A tract without the extension tract_sparse
refuses it by that name; --plain writes what any tract reads. Where compact
weights would save nothing, that is written anyway.")]
    Convert(OnModel<crate::convert::Convert>),
    /// Print the nodes of the sparse model as tract's own dump does
    #[command(after_help = "\
Examples:
  tract-sparse m.onnx -O dump --profile --cost
  tract-sparse m.onnx dump --info --op-name Sparse
  tract-sparse m.onnx dump --quiet --nnef-tar m.nnef.tar

FMA(F32) counts multiplications by weights that are not zero, so F/s are real
ones; DenseFMA is what the same layer would count if it were dense.")]
    Dump(Box<OnModel<Dump>>),
    /// Print a completion script for a shell
    #[command(after_help = "\
Example:
  source <(tract-sparse completions bash)")]
    Completions(Completions),
    /// Print the manual page, or that of one command
    #[command(after_help = "\
Examples:
  tract-sparse man > tract-sparse.1
  tract-sparse man bench | man -l -")]
    Man(Man),
}
