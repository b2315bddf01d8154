//! NEON, groups of four output channels, one loop for each class of cores: that of `neon_columns`, over vectors that have a
//! base of their own. Everything around it is that of `neon`.

use super::{MAX_LANES, TileArgs};
use crate::target::Core;

pub(super) use a53::tile as tile_a53;
pub(super) use a55::tile as tile_a55;
pub(super) use a76::tile as tile_a76;

/// The tile of a class of cores.
macro_rules! tiles_for {
    ($name:ident, $core:ident) => {
        mod $name {
            use super::super::body::tiles;
            use super::super::neon::{
                Floats, LANES, add, clamp, load, multiply_add, permute, prefetch, splat, store,
            };
            use super::{Core, TileArgs};

            tiles!("neon");

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
                    unsafe {
                        crate::neon_columns::gather::<{ Core::$core as u8 }, V>(
                            four, bases, offsets, values, columns,
                        )
                    }
                }
            }
        }
    };
}

tiles_for!(a53, A53);
tiles_for!(a55, A55);
tiles_for!(a76, A76);
