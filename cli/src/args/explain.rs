//! Arguments of `inspect`, `whatif` and `fit`.

use super::Settings;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Time every layer on either operator
    #[arg(long)]
    pub(crate) measure: bool,
    /// Write a page to look at: times, table, and where the zeros are
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Whatif {
    #[command(flatten)]
    pub(crate) zeros: Settings,
    /// Draw speed against zeros, as without any option: layers with blocks
    #[arg(long, conflicts_with_all = ["conv1x1", "ratio"])]
    pub(crate) sweep: bool,
    /// With --sweep: write the curves as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Time every layer too
    #[arg(long, conflicts_with = "sweep")]
    pub(crate) measure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Fit {
    /// Write the table to this file instead
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
