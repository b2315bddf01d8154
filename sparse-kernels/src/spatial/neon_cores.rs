//! NEON, groups of four output channels, one loop for each class of cores: those of `neon_columns` and
//! `neon_wide`, over vectors that have a base of their own. Everything around it is that of `neon`.

use super::{MAX_LANES, TileArgs};
use crate::neon_columns;
use crate::neon_wide;
use crate::target::Core;
use std::arch::aarch64::float32x4_t;

pub(super) use a53::tile as tile_a53;
pub(super) use a55::tile as tile_a55;
pub(super) use a76::tile as tile_a76;

/// The tile of a class of cores.
macro_rules! tiles_for {
    ($name:ident, $core:ident) => {
        mod $name {
            use super::super::body::tiles;
            use super::super::neon::{
                Floats, LANES, add, clamp, load, multiply_add, permute, prefetch, splat, store, store_run,
            };
            use super::{Core, TileArgs, gather};

            tiles!("neon", store_run);

            /// Adds `columns` columns to the sums.
            ///
            /// # Safety
            /// As [`plain`].
            #[inline]
            #[target_feature(enable = "neon")]
            unsafe fn accumulate<const R: usize, const V: usize>(
                sums: &mut [[Floats; V]; R],
                bases: &[*const f32; V],
                offsets: *const u32,
                values: *const f32,
                columns: usize,
            ) {
                let Some(four) = sums.as_mut_slice().as_mut_array::<4>() else {
                    // SAFETY: passed on from the caller.
                    return unsafe { plain(sums, bases, offsets, values, columns) };
                };
                if columns > 0 {
                    // SAFETY: passed on from the caller; offsets go on behind the last (`Plan`).
                    unsafe { gather::<{ Core::$core as u8 }, V>(four, bases, offsets, values, columns) }
                }
            }
        }
    };
}

/// The loop for a class of cores.
///
/// # Safety
/// As [`neon_columns::gather`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn gather<const CORE: u8, const V: usize>(
    sums: &mut [[float32x4_t; V]; 4],
    bases: &[*const f32; V],
    offsets: *const u32,
    values: *const f32,
    columns: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        if CORE == Core::A76 as u8 {
            neon_wide::gather(sums, bases, offsets, values, columns)
        } else {
            neon_columns::gather::<CORE, V>(sums, bases, offsets, values, columns)
        }
    }
}

tiles_for!(a53, A53);
tiles_for!(a55, A55);
tiles_for!(a76, A76);
