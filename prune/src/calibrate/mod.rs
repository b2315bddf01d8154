//! Pruning that looks at activations: what real inputs send into each layer.
//!
//! For a layer `y = W x + b` with inputs of mean `m` and covariance `H`, leaving weights out of a row `w`
//! costs, in mean squared output and with the bias set right, `d^T H d` where `d` is the change of the row.
//! Wanda scores a weight by `|w| * sqrt(E x^2)`. The optimal brain compression of Frantar & Alistarh asks for
//! more: among all changes that make the weights of the set `P` zero, the cheapest is `d = -H^-1[:,P]
//! (H^-1[P,P])^-1 w_P`, and it costs `w_P^T (H^-1[P,P])^-1 w_P`. A group is scored by that cost, summed over
//! its rows, with all others in place; when the groups have been chosen, the weights that stay move by the
//! joint change of the whole set, which is the least squares solution.

mod bias;
mod collect;
mod compare;
mod linear;
mod moments;
mod obc;
mod sequential;
mod wanda;
mod window;

pub use collect::Calibration;
pub use compare::{Answers, Error, compare, output_error};
pub use obc::Obc;
pub use sequential::sequential;
pub use wanda::Wanda;

#[cfg(test)]
mod tests;
