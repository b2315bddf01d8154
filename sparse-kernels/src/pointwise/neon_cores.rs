//! aarch64, 4x4 blocks, one loop for each class of cores that work in order: the same registers, another
//! schedule. And the tiles of all classes: the loops over rows are those of `neon_columns`, all loops for
//! cores out of order those of `neon_wide`.
//!
//! **Registers.** 4 channels by 20 pixels are 20 sums (v12 to v31: vector `v`, channel `r` in v12 + 4v + r).
//! What remains is two sets of 5 inputs and 1 register of four weights (v0 to v5, v6 to v11): while the
//! multiply-adds of one input channel read one set and pick weights by lane, the other is loaded for the next
//! channel. The fourth channel loads for the first of the next block, so that loads never wait for the end of
//! a block; the last block is a copy of the loop without those. All 32 registers are taken and compilers
//! spill here, hence assembly.
//!
//! **Schedule.** A block of 20 pixels is 80 multiply-adds, 24 loads of 128 bits and 8 instructions for
//! pointers, count and branch. How loads hide behind multiply-adds is what cores disagree on:
//!
//! * Cortex-A55 starts one multiply-add a cycle and beside it one of: a 64-bit vector load, a 64-bit integer
//!   load, a move of an integer register to half a vector. A 128-bit load would stop multiply-adds for 2 to 3
//!   cycles. So a vector is loaded in three pieces, low half, high half to an integer register, and from
//!   there to its place, one in every gap: 4 x 18 pieces and the other 8 instructions fill all 80 gaps. 160
//!   instructions, 80 cycles at best.
//! * Cortex-A53 has the same three pieces, but only the integer load goes beside a multiply-add. The vector
//!   load and the move go beside each other, and no vector load can start four cycles after a multiply-add.
//!   With three multiply-adds and then a load with the move of the vector before it, the fourth cycle before
//!   every load is a load. That rhythm ignores where channels end: started anew for each, it would lose a
//!   cycle every time. It runs through 24 loads, 72 multiply-adds, then the 8 left and the last move: 105
//!   cycles, of which 80 multiply.
//!
//! **Tails** of 16, 12, 8 and 4 pixels are the same text with fewer vectors. The last vector of a tile ends
//! at its last pixel, so its place comes in a register.
//!
//! Cycles are modelled from published descriptions of the cores, not measured; `scripts/neon-cost.sh` models
//! whole layers.

use super::TileArgs;
use super::neon::{LANES, begin, store};
use crate::neon_columns::{self, Walk};
use crate::neon_wide;
use crate::target::Core;
use std::arch::{aarch64::float32x4_t, asm};

/// [`tile_for`] by [`Core::A53`].
///
/// # Safety
/// As [`tile_for`].
pub(super) unsafe fn tile_a53<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe { tile_for::<R, C, { Core::A53 as u8 }>(args) }
}

/// [`tile_for`] by [`Core::A55`].
///
/// # Safety
/// As [`tile_for`].
pub(super) unsafe fn tile_a55<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe { tile_for::<R, C, { Core::A55 as u8 }>(args) }
}

/// [`tile_for`] by [`Core::A76`].
///
/// # Safety
/// As [`tile_for`].
pub(super) unsafe fn tile_a76<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe { tile_for::<R, C, { Core::A76 as u8 }>(args) }
}

/// `R` output channels by `LANES` pixels to as many as [`most_vectors`] says, with the schedule for `CORE`.
///
/// # Safety
/// NEON is there; `args` keeps the invariants of [`TileArgs`].
unsafe fn tile_for<const R: usize, const C: usize, const CORE: u8>(args: &TileArgs) {
    const { assert!(C == 1 || R == 4 && C == 4, "made for rows and for 4x4 blocks") };
    // SAFETY: passed on from the caller; the number of vectors is that of the pixels.
    unsafe {
        match args.pixels.div_ceil(LANES) {
            1 => rows::<R, C, CORE, 1>(args),
            2 => rows::<R, C, CORE, 2>(args),
            3 => rows::<R, C, CORE, 3>(args),
            4 => rows::<R, C, CORE, 4>(args),
            5 => rows::<R, C, CORE, 5>(args),
            6 => rows::<R, C, CORE, 6>(args),
            7 => rows::<R, C, CORE, 7>(args),
            8 => rows::<R, C, CORE, 8>(args),
            9 => rows::<R, C, CORE, 9>(args),
            10 => rows::<R, C, CORE, 10>(args),
            vectors => unreachable!("a tile of {vectors} vectors"),
        }
    }
}

/// Vectors of pixels of a tile of `rows` rows, at most.
const fn most_vectors(rows: usize, core: u8) -> usize {
    if core == Core::A76 as u8 { neon_wide::most_vectors(rows) } else { neon_columns::most_vectors(rows) }
}

/// Block rows one after the other, for a fixed number of vectors.
///
/// # Safety
/// As [`tile_for`]; `V` is the number of vectors of `args.pixels`.
#[target_feature(enable = "neon")]
unsafe fn rows<const R: usize, const C: usize, const CORE: u8, const V: usize>(args: &TileArgs) {
    if V > most_vectors(R, CORE) {
        // Never a tile in the kernel table: keeps the compiler from making code for it.
        unreachable!("a tile of {V} vectors of {R} rows");
    }
    let mut at = [0; V];
    for (v, at) in at.iter_mut().enumerate() {
        *at = v * LANES;
    }
    at[V - 1] = args.pixels - LANES;
    for row in args.block_rows.clone() {
        // SAFETY: `row` is a block row. Every index is a channel of the chunks with C - 1 behind it, each
        // with `args.pixels` floats (TileArgs); every block has R * C values, and `indices` goes on
        // behind the last (PackedPointwise).
        unsafe {
            // Where the first block begins is known many cycles after its index is asked for: ask before the
            // sums begin.
            let (indices, values, blocks) = args.blocks(row, R * C);
            let first = if blocks > 0 { *indices as usize } else { 0 };
            let walk = Walk {
                indices,
                values,
                blocks,
                first: args.x.wrapping_add(first * args.x_stride),
                x: args.x,
                stride: args.x_stride * size_of::<f32>(),
                last: at[V - 1] * size_of::<f32>(),
            };
            let mut sums: [[float32x4_t; V]; R] = begin(args, row, &at);
            if blocks > 0 {
                if CORE == Core::A76 as u8 {
                    neon_wide::multiply_add::<R, C, V>(&mut sums, &walk);
                } else if C == 1 {
                    neon_columns::multiply_add::<R, CORE, V>(&mut sums, &walk);
                } else {
                    multiply_add::<R, CORE, V>(&mut sums, &walk);
                }
            }
            store(args, row, &at, &sums);
        }
    }
}

/// The loop of [`multiply_add`] for so many vectors, which are listed with the registers of their four sums.
///
/// The text is a program for the assembler, written once for all schedules: `pw_block` counts the
/// multiply-adds that it has written and puts other instructions behind them. Numbers in it: channel `s` of a
/// block, 0 to 3, is multiplied while `s + 1` is loaded, where 4 is the first of the next block; load `j` is
/// the first input for 0, the weights for 1, input `j - 1` beyond, in the order of need; pieces are 0 all of
/// a vector, 1 its low half, 2 its high half to an integer register, 3 from there to its place. `.Ln`
/// multiply-adds are written, `.Lr` of them since the loads for this channel have begun.
///
/// x9 and x10 hold high halves, x11 points to the second to fourth channel of a block, x12 to the first of
/// the next block, x13 to the weights, x14 is the index of the next block.
macro_rules! walk {
    ($core:expr, $v:expr, $sums:ident, $walk:ident, $($vector:literal: $r0:tt $r1:tt $r2:tt $r3:tt),*) => {
        asm!(
            r"
            .altmacro
            .macro pw_multiply_add sum, x, w, lane
                fmla v\sum\().4s, v\x\().4s, v\w\().s[\lane]
            .endm
            .macro pw_next
                .set .Lm, .Ln % (4*{v})
                .set .Lset, 6*((.Ln / (4*{v})) % 2)
                pw_multiply_add %(12 + .Lm), %(.Lset + .Lm/4), %(.Lset + 5), %(.Lm % 4)
                .set .Ln, .Ln + 1
            .endm

            .macro pw_piece piece, vector, base, low, high, half
                .if \piece == 0
                    ldr q\vector, [x\base, \low]
                .elseif \piece == 1
                    ldr d\vector, [x\base, \low]
                .elseif \piece == 2
                    ldr x\half, [x\base, \high]
                .else
                    mov v\vector\().d[1], x\half
                .endif
            .endm
            .macro pw_load piece, j, s
                .set .Lset, 6*(\s % 2)
                .set .Lbase, 12 - (\s + 3)/4 + \s/4
                .set .Lhalf, 9 + (\s*({v} + 1) + \j) % 2
                .set .Lv, \j - 1
                .if \j == 0
                    .set .Lv, 0
                .endif
                .if \j == 1
                    pw_piece \piece, %(.Lset + 5), 13, %(16*\s), %(16*\s + 8), %(.Lhalf)
                .elseif .Lv == {v} - 1
                    pw_piece \piece, %(.Lset + .Lv), %(.Lbase), {last}, {high}, %(.Lhalf)
                .else
                    pw_piece \piece, %(.Lset + .Lv), %(.Lbase), %(16*.Lv), %(16*.Lv + 8), %(.Lhalf)
                .endif
            .endm

            .macro pw_point s, end
                .if \s == 0
                    add x11, x12, {stride}
                .elseif \s < 3
                    add x11, x11, {stride}
                .elseif \end == 0
                    subs {blocks}, {blocks}, 1
                .endif
            .endm
            .macro pw_look_ahead s, end
                .if \end == 0
                    .if \s == 0
                        ldr w14, [{indices}], 4
                    .elseif \s == 1
                        madd x12, x14, {stride}, {x}
                    .elseif \s == 3
                        add x13, x13, 64
                    .endif
                .endif
            .endm

            .macro pw_block_a53 end
                .rept 16*{v}
                    pw_next
                    .set .Ls, (.Ln - 1)/{period}
                    .if .Ls > 3
                        .set .Ls, 3
                    .endif
                    .set .Lr, .Ln - {period}*.Ls
                    .set .Lj, .Lr/{gap}
                    .if .Lr == 1
                        pw_point %(.Ls), \end
                    .endif
                    .if .Lr == 4 && .Ls < 3
                        pw_look_ahead %(.Ls), \end
                    .endif
                    .if .Lr % {gap} == {gap} - 1 && .Lj <= {v} && (.Ls < 3 || \end == 0)
                        pw_load 2, %(.Lj), %(.Ls + 1)
                    .endif
                    .if .Lr % {gap} == 0 && .Lj <= {v} + 1
                        .if .Ls < 3 || \end == 0
                            pw_load 1, %(.Lj - 1), %(.Ls + 1)
                        .endif
                        .if .Lj > 1 && (.Ls < 3 || \end == 0)
                            pw_load 3, %(.Lj - 2), %(.Ls + 1)
                        .elseif .Lj == 1 && .Ls > 0
                            pw_load 3, {v}, %(.Ls)
                        .endif
                    .endif
                .endr
                .if \end == 0
                    pw_look_ahead 3, 0
                    pw_load 3, {v}, 4
                .endif
            .endm

            .macro pw_block_a55 end
                .set .Ls, 0
                .rept 4
                    .set .Lr, 1
                    .rept 5 + 3*{v}
                        .if .Lr <= 4*{v}
                            pw_next
                        .endif
                        .set .Lj, (.Lr - 1)/3
                        .if .Lr == 1
                            pw_point %(.Ls), \end
                        .elseif .Lr == 4 + 3*{v}
                            pw_look_ahead %(.Ls), \end
                        .elseif .Ls < 3 || \end == 0
                            .if .Lr < 4
                                pw_load %(.Lr - 1), 0, %(.Ls + 1)
                            .elseif .Lr == 5 + 3*{v}
                                pw_load 3, {v}, %(.Ls + 1)
                            .elseif .Lr % 3 == 0
                                pw_load 3, %(.Lj - 1), %(.Ls + 1)
                            .else
                                pw_load %(.Lr % 3), %(.Lj), %(.Ls + 1)
                            .endif
                        .endif
                        .set .Lr, .Lr + 1
                    .endr
                    .set .Ls, .Ls + 1
                .endr
            .endm

            .macro pw_block end
                .set .Ln, 0
                .if {core} == {a53}
                    pw_block_a53 \end
                .else
                    pw_block_a55 \end
                .endif
            .endm

                .set .Lfirst, 0
                .rept {v} + 1
                    pw_load 0, %(.Lfirst), 0
                    .set .Lfirst, .Lfirst + 1
                .endr
                subs {blocks}, {blocks}, 1
                b.eq 3f
            2:
                pw_block 0
                b.ne 2b
            3:
                pw_block 1

            .irp name, multiply_add, next, piece, load, point, look_ahead, block_a53, block_a55, block
                .purgem pw_\name
            .endr
            ",
            v = const $v,
            // Multiply-adds between two loads, and from the loads for one channel to those for the next (A53).
            gap = const if $v > 2 { 3 } else { 2 },
            period = const if $v > 2 { 3 * ($v + 1) } else { 4 * $v },
            core = const $core,
            a53 = const Core::A53 as u8,
            indices = inout(reg) $walk.indices.wrapping_add(1) => _,
            blocks = inout(reg) $walk.blocks => _,
            x = in(reg) $walk.x,
            stride = in(reg) $walk.stride,
            last = in(reg) $walk.last,
            high = in(reg) $walk.last + 8,
            inout("x13") $walk.values => _,
            inout("x12") $walk.first => _,
            out("x9") _, out("x10") _, out("x11") _, out("x14") _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
            out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            $(
                inout($r0) $sums[0][$vector],
                inout($r1) $sums[1][$vector],
                inout($r2) $sums[2][$vector],
                inout($r3) $sums[3][$vector],
            )*
            options(readonly, nostack),
        )
    };
}

/// Adds all blocks of a row to `sums`, with the schedule for `CORE`.
///
/// # Safety
/// NEON is there; `walk` keeps the invariants of [`Walk`], and its `blocks` is not zero.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn multiply_add<const R: usize, const CORE: u8, const V: usize>(
    sums: &mut [[float32x4_t; V]; R],
    walk: &Walk,
) {
    // SAFETY: reads what `Walk` has vouched for, and nothing of a block after the last.
    unsafe {
        match V {
            1 => walk!(CORE, V, sums, walk, 0: "v12" "v13" "v14" "v15"),
            2 => walk!(CORE, V, sums, walk, 0: "v12" "v13" "v14" "v15", 1: "v16" "v17" "v18" "v19"),
            3 => walk!(
                CORE, V, sums, walk,
                0: "v12" "v13" "v14" "v15", 1: "v16" "v17" "v18" "v19", 2: "v20" "v21" "v22" "v23"
            ),
            4 => walk!(
                CORE, V, sums, walk,
                0: "v12" "v13" "v14" "v15", 1: "v16" "v17" "v18" "v19", 2: "v20" "v21" "v22" "v23",
                3: "v24" "v25" "v26" "v27"
            ),
            5 => walk!(
                CORE, V, sums, walk,
                0: "v12" "v13" "v14" "v15", 1: "v16" "v17" "v18" "v19", 2: "v20" "v21" "v22" "v23",
                3: "v24" "v25" "v26" "v27", 4: "v28" "v29" "v30" "v31"
            ),
            _ => unreachable!("a tile of {V} vectors"),
        }
    }
}
