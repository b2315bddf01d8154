//! Options that every command takes.

use anyhow::{Result, ensure};
use clap::{ArgAction, Args, ValueEnum, ValueHint};
use std::path::PathBuf;
use tract_linalg::multithread::{Executor, set_default_executor};

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
    /// best of this machine (the default); scalar, avx2, avx-vnni, avx512,
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
    /// What layers of ours compute in [TRACT_SPARSE_PRECISION]: f32 (the
    /// default); half, 16 bits where this machine has kernels for that and a
    /// gain is predicted
    #[arg(long, global = true, value_name = "WORD", verbatim_doc_comment)]
    pub(crate) precision: Option<String>,
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

    /// How many threads `--threads` means.
    pub(crate) fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }

    /// Has tract run operators on as many threads as are asked for.
    ///
    /// # Errors
    /// More threads than make sense.
    pub(crate) fn start_threads(&self) -> Result<()> {
        ensure!(self.threads <= 1024, "--threads {}: at most 1024", self.threads);
        let n = self.thread_count();
        if n > 1 {
            set_default_executor(Executor::multithread(n));
        }
        Ok(())
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

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.to_possible_value().unwrap_or_default().get_name())
    }
}

/// The arguments `T` of a command that takes a model. It stands before the command, as tract has it, or
/// behind it.
#[derive(Debug, Args)]
pub(crate) struct OnModel<T: Args> {
    #[command(flatten)]
    pub(crate) args: T,
    /// The model, if it does not stand before the command
    #[arg(id = "model_behind", value_name = "MODEL", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
}
