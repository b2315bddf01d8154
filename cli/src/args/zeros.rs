//! Which zeros the layers of a network get, in the words of the zoo.

use clap::Args;

/// Which zeros the layers of a network get.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Zeros {
    /// Zeros of 1x1 convolutions: 4x4:R, 4x1:R (any RxC), unstructured:R
    #[arg(long, value_name = "SPEC")]
    pub(crate) conv1x1: Option<::zoo::Pointwise>,
    /// Zeros of depthwise 3x3 convolutions: 3:9
    #[arg(long, value_name = "SPEC")]
    pub(crate) dwconv3x3: Option<::zoo::DwConv3x3>,
    /// Zeros of 3x3 convolutions: 5:9 or 5:9:CONNECTIVITY
    #[arg(long, value_name = "SPEC")]
    pub(crate) conv3x3: Option<::zoo::Conv3x3>,
    /// Zeros of fully connected layers, as --conv1x1
    #[arg(long, value_name = "SPEC")]
    pub(crate) fc: Option<::zoo::Pointwise>,
}
