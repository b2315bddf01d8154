//! Arguments of `compare`.

use super::Input;
use clap::Args;

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
