//! What the loops of all classes of cores walk over, and how they list the registers of their sums.

#[cfg(doc)]
use crate::LOOK_AHEAD;

/// The blocks of one row and the panel they are applied to.
///
/// Invariants, where `blocks` is not zero: that many blocks are valid at `values`, and `indices` has those of
/// all blocks but the first, which begins at `first`, and [`LOOK_AHEAD`] more that need not mean anything;
/// `x` plus `stride` bytes times the index of a block, and the strides to its other channels, is
/// valid for the pixels of the tile, the last vector of which begins at byte `last`. The same holds for
/// `first`.
pub(crate) struct Walk {
    pub(crate) indices: *const u32,
    pub(crate) values: *const f32,
    pub(crate) blocks: usize,
    pub(crate) first: *const f32,
    pub(crate) x: *const f32,
    pub(crate) stride: usize,
    pub(crate) last: usize,
}

/// `$walk!($head, vectors)` for the first `$v` of the listed vectors.
macro_rules! walk_first {
    (@count $($vector:tt)*) => { 0 $(+ { let _ = stringify!($vector); 1 })* };
    ($walk:ident, $v:expr, $head:tt, $done:tt) => {
        unreachable!("a tile of {} vectors", $v)
    };
    ($walk:ident, $v:expr, $head:tt, ($($done:tt)*) $next:tt $($rest:tt)*) => {
        if $v == walk_first!(@count $($done)*) + 1 {
            $walk!($head, $($done)* $next)
        } else {
            walk_first!($walk, $v, $head, ($($done)* $next) $($rest)*)
        }
    };
}
pub(crate) use walk_first;
