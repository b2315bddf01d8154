//! Arguments of `dump`.

use super::{Input, Limits};
use clap::{Args, ValueHint};
use std::path::PathBuf;

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
    #[arg(short, long)]
    pub(crate) summary: bool,
    /// Print the whole graph as JSON, as tract does
    #[arg(long)]
    pub(crate) audit_json: bool,
    /// Print no nodes
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) nodes: Nodes,
    #[command(flatten)]
    pub(crate) nnef: Nnef,
    #[command(flatten)]
    pub(crate) assertions: Assertions,
    /// Fail unless this is the cost: "FMA(F32)=2060448 Div(F32)=24576"
    #[arg(long, value_name = "COST", requires = "cost")]
    pub(crate) assert_cost: Option<String>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) input: Input,
}

/// Which nodes, in which order, and what of them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
pub(crate) struct Nodes {
    /// Only nodes whose name begins so
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Only nodes whose operator begins so
    #[arg(long, value_name = "OP")]
    pub(crate) op_name: Option<String>,
    /// Only this node
    #[arg(long, value_name = "ID")]
    pub(crate) node_id: Vec<usize>,
    /// By number, not in the order of evaluation
    #[arg(long)]
    pub(crate) natural_order: bool,
    /// In the order that needs least memory
    #[arg(long)]
    pub(crate) opt_ram_order: bool,
    /// Inputs and outputs in full
    #[arg(long, conflicts_with = "io_none")]
    pub(crate) io_long: bool,
    /// No inputs and outputs
    #[arg(long)]
    pub(crate) io_none: bool,
    /// Labels of the outputs of nodes
    #[arg(long)]
    pub(crate) outlet_labels: bool,
    /// Memory between the nodes
    #[arg(long)]
    pub(crate) tmp_mem_usage: bool,
    /// Where axes come from
    #[arg(long)]
    pub(crate) axes: bool,
    /// Which axes operators leave alone
    #[arg(long)]
    pub(crate) invariants: bool,
    /// Operators in Rust's debug form
    #[arg(long)]
    pub(crate) debug_op: bool,
    /// Not what is inside of loops
    #[arg(long)]
    pub(crate) folded: bool,
}

/// The model as NNEF, for any tract: the layers are dense ones again.
#[derive(Debug, Args)]
#[command(next_help_heading = "NNEF")]
pub(crate) struct Nnef {
    /// Write an NNEF archive
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) nnef_tar: Option<PathBuf>,
    /// Write a compressed NNEF archive (.tgz)
    #[arg(long = "nnef", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) nnef_tgz: Option<PathBuf>,
    /// Write NNEF into a new folder
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) nnef_dir: Option<PathBuf>,
    /// Write the graph alone; - is stdout
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) nnef_graph: Option<PathBuf>,
    /// The same archive at any time of day
    #[arg(long)]
    pub(crate) nnef_deterministic: bool,
}

/// What has to be true of the graph.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Assertions")]
pub(crate) struct Assertions {
    /// Fail unless the operator occurs that often
    #[arg(long, num_args = 2, value_names = ["OP", "N"])]
    pub(crate) assert_op_count: Vec<String>,
    /// Fail unless all operators are of this list; Opt* is a beginning
    #[arg(long, value_name = "OP,OP", value_delimiter = ',')]
    pub(crate) assert_op_only: Vec<String>,
    /// Fail unless the outputs have this type and shape: 1,1000,f32
    #[arg(long, value_name = "FACT")]
    pub(crate) assert_output_fact: Vec<String>,
}

impl Nnef {
    /// Whether anything is to be written.
    pub(crate) fn wanted(&self) -> bool {
        self.nnef_tar.is_some()
            || self.nnef_tgz.is_some()
            || self.nnef_dir.is_some()
            || self.nnef_graph.is_some()
    }
}

impl Assertions {
    /// Whether anything has to be true.
    pub(crate) fn wanted(&self) -> bool {
        !self.assert_op_count.is_empty()
            || !self.assert_op_only.is_empty()
            || !self.assert_output_fact.is_empty()
    }
}
