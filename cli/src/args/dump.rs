//! Arguments of `dump`.

use super::{Input, Limits};
use clap::Args;

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
