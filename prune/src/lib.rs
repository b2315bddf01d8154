//! Makes the weights of ONNX networks sparse.
//!
//! [`groups`] holds the pruning itself: plain functions that set weights of a slice to zero, group by group, lowest
//! l1 norm first. [`mod@file`] writes results whole or not at all.

pub mod file;
pub mod groups;
