//! aarch64: the loops that are scheduled for a class of cores, in assembly, because compilers spill where all
//! registers are taken, and order instructions as they like.
//!
//! Pointwise and spatial layers share them: both add columns of weights to a tile of sums, from pixels whose
//! place is an index times a stride, or an offset.

pub(crate) mod in_order_blocks;
pub(crate) mod in_order_rows;
pub(crate) mod out_of_order;
mod walk;

pub(crate) use walk::Walk;
