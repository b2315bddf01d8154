//! The tile, the same for every vector target.
//!
//! The tile is `R` output channels by `V` vectors of pixels. For every stored column, `V` vectors are loaded
//! at its offset, and each of the `R` weights is multiplied into its row of sums. Target files say how wide
//! the tile is, and why, and bring the vector: `LANES`, `Floats`, `splat`, `load`, `store`, `add`,
//! `multiply_add`, `clamp`, `permute`, `prefetch`; and `accumulate`, which is [`tiles`]' `plain` unless there
//! is something better.

/// Writes `tile` for the vectors of the module where it stands, compiled with `$feature`. `$store_run`, if
/// there is one, clamps and stores sums whose pixels follow each other.
///
/// A macro and not a generic function, because generic code would be compiled without the feature.
macro_rules! tiles {
    ($feature:literal $(, $store_run:ident)?) => {
        /// `R` output channels by up to `TILE` pixels.
        ///
        /// # Safety
        /// The target's features are there; `args` keeps the invariants of [`TileArgs`].
        pub(in crate::spatial) unsafe fn tile<const R: usize, const TILE: usize>(args: &TileArgs) {
            // SAFETY: passed on from the caller; there are at most TILE / LANES vectors, which are at most 8.
            unsafe {
                match args.vectors.len() {
                    1 => rows::<R, TILE, 1>(args),
                    2 => rows::<R, TILE, 2>(args),
                    3 => rows::<R, TILE, 3>(args),
                    4 => rows::<R, TILE, 4>(args),
                    5 => rows::<R, TILE, 5>(args),
                    6 => rows::<R, TILE, 6>(args),
                    7 => rows::<R, TILE, 7>(args),
                    _ => rows::<R, TILE, 8>(args),
                }
            }
        }

        /// The loop over groups for a fixed number of vectors.
        ///
        /// # Safety
        /// As [`tile`]; `V` is `args.vectors.len()`.
        #[target_feature(enable = $feature)]
        unsafe fn rows<const R: usize, const TILE: usize, const V: usize>(args: &TileArgs) {
            const { assert!(TILE <= 8 * LANES && LANES <= super::MAX_LANES) }
            if V * LANES > TILE || args.vectors.len() != V {
                // Not a tile of this kernel: keeps the compiler from making code for it.
                unreachable!("a tile of {} vectors", args.vectors.len());
            }
            let image = args.image.as_ptr();
            let bases = std::array::from_fn(|v| image.wrapping_add(args.vectors[v].base as usize));
            let pixels: [usize; V] = std::array::from_fn(|v| args.vectors[v].pixel as usize);
            let (room, plain) = args.room(LANES);
            $(
                let _ = stringify!($store_run);
                let run = !args.clamps.residual && (0..V).all(|v| pixels[v] == pixels[0] + v * LANES);
            )?
            for group in args.groups.clone() {
                // SAFETY: `group` is one of the tile's; `bias` has R floats for each.
                let (offsets, values, columns, bias) = unsafe {
                    let (offsets, values, columns) = args.columns(group, R);
                    (offsets, values, columns, args.weights.bias.as_ptr().add(group * R))
                };
                let y = args.y.wrapping_add(group * R * args.stride);
                for r in 0..R {
                    // The lines of the output arrive while the sums are computed.
                    pixels.iter().for_each(|pixel| prefetch(y.wrapping_add(r * args.stride + pixel)));
                }
                // SAFETY: as above.
                let mut sums: [[Floats; V]; R] = std::array::from_fn(|r| [splat(unsafe { *bias.add(r) }); V]);
                // SAFETY: offsets, values and bases are those of the group and the tile.
                unsafe { accumulate(&mut sums, &bases, offsets, values, columns) };
                if !room || group * R + R > args.weights.oc {
                    // A copy, so that the sums themselves can stay in registers.
                    let sums = sums;
                    // SAFETY: passed on from the caller.
                    unsafe { store_pixels(args, group, &sums) };
                    continue;
                }
                if !plain {
                    for v in 0..V {
                        let order = &args.orders[args.vectors[v].order as usize];
                        sums.iter_mut().for_each(|sums| sums[v] = permute(sums[v], order));
                    }
                }
                $(
                    if run {
                        // SAFETY: there is room for whole vectors, which follow each other (TileArgs).
                        unsafe { $store_run(y.wrapping_add(pixels[0]), args.stride, args.clamps.before, &sums) };
                        continue;
                    }
                )?
                // As if the stride were another for every group: the compiler would work out the addresses of all vectors once,
                // and has no registers to keep them.
                let stride = std::hint::black_box(args.stride);
                let (mut y, mut residual) = (y, args.residual.wrapping_add(group * R * stride));
                for sums in &sums {
                    for (sum, pixel) in sums.iter().zip(pixels) {
                        // SAFETY: there is room for a whole vector in each of the R output channels of the group
                        // (TileArgs).
                        unsafe {
                            let mut value = clamp(*sum, args.clamps.before);
                            if args.clamps.residual {
                                value = clamp(add(value, load(residual.add(pixel))), args.clamps.after);
                            }
                            store(y.add(pixel), value);
                        }
                    }
                    y = y.wrapping_add(stride);
                    residual = residual.wrapping_add(stride);
                }
            }
        }

        /// Adds `columns` columns to the sums.
        ///
        /// # Safety
        /// The target's features are there; there are so many offsets, in bytes, with a whole vector of the image at each
        /// offset of each base (`TileArgs`), and `R` values for each (`PackedSpatial`).
        #[inline]
        #[target_feature(enable = $feature)]
        unsafe fn plain<const R: usize, const V: usize>(
            sums: &mut [[Floats; V]; R],
            bases: &[*const f32; V],
            offsets: *const u32,
            values: *const f32,
            columns: usize,
        ) {
            for column in 0..columns {
                // SAFETY: passed on from the caller.
                unsafe {
                    let offset = *offsets.add(column) as usize;
                    let w = values.add(column * R);
                    let x: [Floats; V] = std::array::from_fn(|v| load(bases[v].byte_add(offset)));
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let w = splat(*w.add(r));
                        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum = multiply_add(w, x, *sum));
                    }
                }
            }
        }

        /// Epilogue and store of a group, pixel by pixel.
        ///
        /// # Safety
        /// As [`rows`]; `group` is one of `args.groups`.
        #[inline(never)]
        #[target_feature(enable = $feature)]
        unsafe fn store_pixels<const R: usize, const V: usize>(
            args: &TileArgs,
            group: usize,
            sums: &[[Floats; V]; R],
        ) {
            let channels = group * R..args.weights.oc.min(group * R + R);
            for (channel, sums) in channels.zip(sums) {
                for (vector, sum) in args.vectors.iter().zip(sums) {
                    let mut lanes = [0f32; LANES];
                    // SAFETY: `channel` is an output channel of the group; `lanes` is a whole vector.
                    unsafe {
                        store(lanes.as_mut_ptr(), *sum);
                        args.store_pixels(channel, vector, &lanes);
                    }
                }
            }
        }
    };
}

pub(super) use tiles;
