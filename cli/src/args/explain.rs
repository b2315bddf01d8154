//! Arguments of `inspect`, `whatif` and `doctor`.

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
    /// Prune 1x1 convolutions: 4x4:R, 4x1:R (any RxC), unstructured:R
    #[arg(long, value_name = "SPEC")]
    pub(crate) conv1x1: Option<::zoo::Pointwise>,
    /// Prune depthwise 3x3 convolutions: 3:9
    #[arg(long, value_name = "SPEC")]
    pub(crate) dwconv3x3: Option<::zoo::DwConv3x3>,
    /// Prune 3x3 convolutions: 5:9 or 5:9:CONNECTIVITY
    #[arg(long, value_name = "SPEC")]
    pub(crate) conv3x3: Option<::zoo::Conv3x3>,
    /// Prune fully connected layers, as --conv1x1
    #[arg(long, value_name = "SPEC")]
    pub(crate) fc: Option<::zoo::Pointwise>,
    /// Draw speed against sparsity: 1x1 layers as 4x4, 4x1, unstructured
    #[arg(long, conflicts_with = "conv1x1")]
    pub(crate) sweep: bool,
    /// With --sweep: write the curves as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Time every layer too
    #[arg(long, conflicts_with = "sweep")]
    pub(crate) measure: bool,
}
