//! What can be wrong with weights, shapes and targets.

use crate::format::FormatKind;

/// A weight tensor or its compressed parts do not form a valid format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The slice does not have `rows * cols` (times taps) elements.
    #[error("{what}: expected {expected} elements, got {got}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Elements the shape asks for.
        expected: usize,
        /// Elements found.
        got: usize,
    },
    /// A dimension is zero.
    #[error("{0} is zero")]
    ZeroDim(&'static str),
    /// A product of dimensions or an offset does not fit the index type.
    #[error("{0} is too large to index")]
    TooLarge(&'static str),
    /// A weight is NaN or infinite: leaving zeros out would change the answer.
    #[error("weight {index} is not finite")]
    NotFinite {
        /// Position in the dense tensor, or in the stored values.
        index: usize,
    },
    /// A weight of int8 that is no whole number from -128 to 127.
    #[error("weight {index} is no whole number from -128 to 127")]
    NotInt8 {
        /// Position in the dense tensor.
        index: usize,
    },
    /// A scale that is zero, negative, NaN or infinite.
    #[error("the scale of channel {channel} is not finite and above zero")]
    Scale {
        /// Output channel.
        channel: usize,
    },
    /// Bounds of outputs of which the lowest is above the highest.
    #[error("outputs from {lo} to {hi}")]
    Bounds {
        /// Lowest output.
        lo: u8,
        /// Highest output.
        hi: u8,
    },
    /// The sums of a channel, or what they are scaled to, may be too large.
    #[error("sums of output channel {channel}, or what they are scaled to, may be too large for 32 bits")]
    Sum {
        /// Output channel.
        channel: usize,
    },
    /// A weight or bias is NaN or infinite, or becomes infinite where it is rounded.
    #[error("{what} {index} is not finite in {element}")]
    Range {
        /// Of what.
        what: &'static str,
        /// Position in the dense tensor.
        index: usize,
        /// The type it is rounded to.
        element: &'static str,
    },
    /// Row starts do not begin at zero, do not end at the number of blocks, or decrease.
    #[error("row starts must grow from 0 to the number of blocks; row {row} does not")]
    RowStarts {
        /// First block row at fault.
        row: usize,
    },
    /// Column indices of a row are out of range or not strictly increasing.
    #[error("block {block} of row {row} has a column out of range or out of order")]
    Column {
        /// Block row.
        row: usize,
        /// Position in the list of blocks.
        block: usize,
    },
    /// A tap pattern is not one that the format knows.
    #[error("group {group} has an unknown pattern {pattern:#b}")]
    Pattern {
        /// Channel or kernel group.
        group: usize,
        /// Bit mask of the kept taps.
        pattern: u32,
    },
}

/// A kernel cannot be applied to what it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The weights are in another format than the kernel reads.
    #[error("kernel {kernel} reads {expected}, weights are {got}")]
    FormatMismatch {
        /// Kernel name.
        kernel: &'static str,
        /// Format of the kernel.
        expected: FormatKind,
        /// Format of the weights.
        got: FormatKind,
    },
    /// The kernel that weights were packed for multiplies another type.
    #[error("kernel {kernel} was asked to run on {asked}")]
    ElementMismatch {
        /// Kernel name.
        kernel: &'static str,
        /// What it was given.
        asked: &'static str,
    },
    /// Weights and geometry disagree, or the operation does not support the geometry.
    #[error("{what}: weights have {weights}, geometry has {geometry}")]
    Shape {
        /// Which dimension.
        what: &'static str,
        /// Value according to the packed weights.
        weights: usize,
        /// Value according to the geometry.
        geometry: usize,
    },
    /// A tensor slice is shorter or longer than its shape.
    #[error("{what}: expected {expected} elements, got {got}")]
    Length {
        /// Which tensor.
        what: &'static str,
        /// Elements the geometry asks for.
        expected: usize,
        /// Elements found.
        got: usize,
    },
    /// A geometry that makes no sense (no channels, taps or step; overflow).
    #[error("geometry: {0}")]
    Geometry(String),
    /// The caller's threads did not run every task once: the output is incomplete.
    #[error("the threads ran {done} of {tasks} tasks, and {wrong} others or twice")]
    Parallel {
        /// Tasks that were to be run.
        tasks: usize,
        /// Tasks that were.
        done: usize,
        /// Calls of tasks that do not exist, or had been called before.
        wrong: usize,
    },
    /// Bias, weights or format are invalid.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// A target that does not exist or that this machine lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No target has this name.
    #[error("unknown target {name:?}, expected one of: {known}")]
    Unknown {
        /// The name as given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// The name is right, the CPU or the build is not.
    #[error("target {target} is not available on this machine, available: {available}")]
    Unavailable {
        /// The target asked for.
        target: &'static str,
        /// What this machine can run, separated by commas.
        available: String,
    },
}
