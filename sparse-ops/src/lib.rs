//! tract operators over the sparse kernels.
//!
//! A sparse layer passes through three levels, as tract's own convolution does:
//!
//! 1. [`SparseConv`] and [`SparseMatMul`] stand in the decluttered graph. Their weights are still a dense
//!    constant input, so that every tool and every other transform can see them; they delegate facts, axes
//!    and evaluation to the stock operator that they hold, and fold the arithmetic that follows into weights
//!    and bias. [`SparseDeconv`] holds the product of a transposed convolution.
//! 2. At code generation the weights are packed for one kernel and the node becomes an [`OptSparseConv`].
//! 3. `OptSparseConv::fuse` takes in activations and residual additions, and puts [`Planar`] in place of
//!    stock tract's slow operators beside it. Layers with large maps between them become one
//!    [`OptSparseChain`], which computes them band by band.
//!
//! In a graph of f16 they and what stands between them become f32 while the graph is decluttered, so that the levels
//! behind see f32 alone.
//!
//! In half precision, layers and what stands between them run on [pairs of channels](ToPairs), once all of the
//! above has been done.
//!
//! A whole-sequence GRU passes through two levels, [`SparseGruSeq`] and [`OptSparseGru`]; so does an `If`
//! whose bodies hold sparse layers, [`SparseIf`] and [`OptSparseIf`]. Bodies of a `Scan` are optimised by
//! tract.
//!
//! In files, weights are kept as [`compact`], by an extension of [`nnef`].
//!
//! Which layers become sparse is decided elsewhere: the operators obey a [`Choice`].

/// What names of operators end with that files hold as stock ones. tract's own NNEF writer refuses operators
/// that it does not know, and all that it says of them is the name: so that leads to what puts stock layers
/// back.
const HINT: &str = " (see unsparsify)";

/// The name of such an operator.
macro_rules! named {
    ($name:literal) => {
        format!("{}{}", $name, crate::HINT).into()
    };
}

mod around;
mod branch;
mod by_channel;
mod choice;
mod col2im;
pub mod compact;
mod epilogue;
mod executor;
mod fold;
mod form;
mod gate;
mod gru;
mod half;
mod int8;
mod konst;
pub mod nnef;
mod nnef_quantised;
mod opt_sparse_chain;
mod opt_sparse_conv;
mod pairs;
mod pieces;
mod planar;
#[cfg(feature = "pulse")]
pub mod pulse;
mod quads;
mod scale;
mod sparse_conv;
mod sparse_deconv;
mod sparse_matmul;
mod widen;
mod wiring;

pub use branch::{OptSparseIf, SparseIf};
pub use by_channel::is_dequantised_by_channel;
pub use choice::{Choice, Dense, Packed, Packing};
pub use executor::only_ours_is_shared;
pub use form::{Form, Linear, conv_obstacle_for};
pub use gru::{OptSparseGru, SparseGruSeq};
pub use half::{Half, HalfChoice};
pub use int8::{Int8, Int8Choice, NAME as INT8, Whole};
pub use konst::{Eval, constant, konst_of};
pub use opt_sparse_chain::{OptSparseChain, layers};
pub use opt_sparse_conv::OptSparseConv;
pub use pairs::{FromPairs, Lanes, PairsBinary, PairsPlanar, PairsReduce, PairsUnary, ToPairs, lanes_of};
pub use planar::Planar;
pub use quads::{
    FromQuads, Outside, QuadsBinary, QuadsLookup, QuadsMean, QuadsMoved, QuadsPlanar, QuadsWide, Steps,
    ToQuads, is_dequantised,
};
pub use sparse_conv::{SparseConv, oihw};
pub use sparse_deconv::{SparseDeconv, deconv_matrix};
pub use sparse_matmul::SparseMatMul;
pub use widen::{stock_keeps_f16, widened};

/// The name of an operator without the hint that it may end with.
pub fn plain_name(name: &str) -> &str {
    name.strip_suffix(HINT).unwrap_or(name)
}
