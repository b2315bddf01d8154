//! Which loops run a row of the kernel table, with which of a machine's vectors: what is chosen here depends on the size of the map.

use super::RowsArgs;
use super::across::{Across, across_on};
use super::body::{Depthwise, Unroll, places, walk_rows};
use super::quads::quads_on;
use super::rolled::{walk_any, walk_large};
use super::values::Values;
use crate::table::Element;
use crate::vector::{Vector, compiled};

/// What a row of the kernel table runs: the loops over a machine's vectors, or plain Rust.
pub(crate) trait Loops {
    /// Pixels of a vector.
    const LANES: usize;

    /// What they multiply.
    const ELEMENT: Element;

    /// [`Vector::SIGNED`].
    const SIGNED: bool = false;

    /// Whether [`Loops::rows`] and [`Loops::large`] take neighbouring taps in one step.
    const DUOS: bool;

    /// Rows of a kernel whose size, stride and taps are constants, of no more than `U` is for.
    ///
    /// # Safety
    /// The instruction set is there; `args` keeps the invariants of [`RowsArgs`] for a kernel of `KH` x `KW`
    /// taps of which `MASK` are stored, and a horizontal stride of `S`; with more than one row the vertical
    /// stride is `S`, too.
    unsafe fn rows<U: Unroll, const KH: usize, const KW: usize, const S: usize, const MASK: u32>(
        args: &RowsArgs,
    );

    /// Rows of a kernel of `K` x `K` taps, all of them stored, which are too many to unroll [`Loops::rows`].
    ///
    /// # Safety
    /// As [`Loops::rows`].
    unsafe fn large<const K: usize, const S: usize>(args: &RowsArgs);

    /// Rows of any kernel; `S` is the horizontal stride.
    ///
    /// # Safety
    /// The instruction set is there; `args` keeps the invariants of [`RowsArgs`] for this stride.
    unsafe fn any<const S: usize>(args: &RowsArgs);
}

impl<V: Depthwise> Loops for V {
    const LANES: usize = <V as Vector>::LANES;
    const ELEMENT: Element = <V as Vector>::ELEMENT;
    const SIGNED: bool = <V as Vector>::SIGNED;
    const DUOS: bool = V::Values::DUOS;

    unsafe fn rows<U: Unroll, const KH: usize, const KW: usize, const S: usize, const MASK: u32>(
        args: &RowsArgs,
    ) {
        // SAFETY: passed on from the caller; the vectors of few columns are those of the same machine.
        unsafe {
            if const { V::Few::ACROSS } {
                let (places, stored) = const { places::<KH, KW>(MASK) };
                if let Some(across) = Across::of::<V::Few>(args, &places[..stored], S) {
                    return across_on::<V::Few>(&across);
                }
            }
            if const { <V::Few as Vector>::LANES < <V as Vector>::LANES }
                && args.y_width <= <V::Few as Vector>::LANES
            {
                rows_on::<V::Few, U, KH, KW, S, MASK>(args);
            } else if const { S == 1 } {
                rows_on::<V, U, KH, KW, S, MASK>(args);
            } else {
                rows_on::<V::Strided, U, KH, KW, S, MASK>(args);
            }
        }
    }

    unsafe fn large<const K: usize, const S: usize>(args: &RowsArgs) {
        // SAFETY: passed on from the caller.
        unsafe {
            if const { V::ELEMENT as u8 == Element::Int8 as u8 } {
                return quads::<V, K, S>(args);
            }
            if const { <V::Few as Vector>::LANES < <V as Vector>::LANES }
                && args.y_width <= <V::Few as Vector>::LANES
            {
                large_on::<V::Few, K, S>(args);
            } else {
                large_on::<V::Strided, K, S>(args);
            }
        }
    }

    unsafe fn any<const S: usize>(args: &RowsArgs) {
        // SAFETY: passed on from the caller.
        unsafe {
            if const { V::ELEMENT as u8 == Element::Int8 as u8 } {
                return quads::<V, 0, S>(args);
            }
            if const { <V::Few as Vector>::LANES < <V as Vector>::LANES }
                && args.y_width <= <V::Few as Vector>::LANES
            {
                any_on::<V::Few, S>(args);
            } else {
                any_on::<V::Strided, S>(args);
            }
        }
    }
}

/// [`quads_on`], with the vectors for maps of this width.
///
/// # Safety
/// As there.
unsafe fn quads<V: Depthwise, const K: usize, const S: usize>(args: &RowsArgs) {
    // SAFETY: passed on from the caller.
    unsafe {
        if const { <V::Few as Vector>::LANES < <V as Vector>::LANES }
            && args.y_width <= <V::Few as Vector>::LANES
        {
            quads_on::<V::Few, K, S>(args);
        } else {
            quads_on::<V, K, S>(args);
        }
    }
}

compiled! {
    unsafe fn rows_on<V: Depthwise, U: Unroll; KH: usize, KW: usize, S: usize, MASK: u32>(RowsArgs) = walk_rows;
}

compiled! {
    unsafe fn large_on<V: Depthwise; K: usize, S: usize>(RowsArgs) = walk_large;
}

compiled! {
    unsafe fn any_on<V: Depthwise; S: usize>(RowsArgs) = walk_any;
}
