//! Outputs: their names, and how near is near enough.

use clap::ValueEnum;
use tract_core::internal::*;

/// tract's degrees of nearness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Approx {
    /// The same bits
    Exact,
    /// As different orders of the same sums
    Close,
    /// As approximations of functions
    Approximate,
    /// Coarser
    Very,
    /// Coarser still
    Super,
    /// Coarsest
    Ultra,
}

impl From<Approx> for Approximation {
    fn from(approx: Approx) -> Approximation {
        match approx {
            Approx::Exact => Approximation::Exact,
            Approx::Close => Approximation::Close,
            Approx::Approximate => Approximation::Approximate,
            Approx::Very => Approximation::VeryApproximate,
            Approx::Super => Approximation::SuperApproximate,
            Approx::Ultra => Approximation::UltraApproximate,
        }
    }
}

/// Where the array of an output stands in a file: under its name, or under that of the node that gives it.
pub(crate) fn entry<'a>(model: &'a TypedModel, outlet: OutletId, known: &[String]) -> Option<&'a str> {
    let node = &model.node(outlet.node).name;
    let labels = model.outlet_label(outlet).into_iter().chain([node.as_str()]);
    labels.into_iter().find(|label| known.iter().any(|name| name == label))
}
