//! 4x4 blocks on cores that work in order, one loop for each class of them: the same registers, another
//! schedule.
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

use super::walk::Walk;
use crate::target::Core;
use crate::vector::{F32x4, is_f16};
use std::arch::asm;

/// The loop of [`multiply_add`] for a number of vectors, listed with the registers of their four sums.
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
    ($core:expr, $halves:expr, $v:expr, $sums:ident, $walk:ident, $($vector:literal: $r0:tt $r1:tt $r2:tt $r3:tt),*) => {
        asm!(
            r"
            .altmacro
            .arch_extension fp16
            .macro pw_multiply_add sum, x, w, lane
                .if {halves}
                    fmla v\sum\().8h, v\x\().8h, v\w\().h[\lane]
                .else
                    fmla v\sum\().4s, v\x\().4s, v\w\().s[\lane]
                .endif
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
                .if \j == 1 && {halves}
                    .if \piece < 2
                        pw_piece 1, %(.Lset + 5), 13, %(8*\s), 0, 0
                    .endif
                .elseif \j == 1
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
                        add x13, x13, {block}
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
            // Bytes of the weights of a block.
            block = const if $halves { 32 } else { 64 },
            halves = const $halves as u8,
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
                inout($r0) $sums[0][$vector].0,
                inout($r1) $sums[1][$vector].0,
                inout($r2) $sums[2][$vector].0,
                inout($r3) $sums[3][$vector].0,
            )*
            options(readonly, nostack),
        )
    };
}

/// Adds all blocks of a row to `sums`, with the schedule for `CORE`.
///
/// # Safety
/// NEON is there; `walk` keeps the invariants of [`Walk`], and its `blocks` is not zero.
#[inline(always)]
pub(crate) unsafe fn multiply_add<const R: usize, const CORE: u8, const ELEMENT: u8, const V: usize>(
    sums: &mut [[F32x4<CORE, ELEMENT>; V]; R],
    walk: &Walk,
) {
    // SAFETY: reads what `Walk` has vouched for, and nothing of a block after the last.
    unsafe {
        match V {
            1 => walk!(CORE, is_f16(ELEMENT), V, sums, walk, 0: "v12" "v13" "v14" "v15"),
            2 => {
                walk!(CORE, is_f16(ELEMENT), V, sums, walk, 0: "v12" "v13" "v14" "v15", 1: "v16" "v17" "v18" "v19")
            }
            3 => walk!(
                CORE, is_f16(ELEMENT), V, sums, walk,
                0: "v12" "v13" "v14" "v15", 1: "v16" "v17" "v18" "v19", 2: "v20" "v21" "v22" "v23"
            ),
            4 => walk!(
                CORE, is_f16(ELEMENT), V, sums, walk,
                0: "v12" "v13" "v14" "v15", 1: "v16" "v17" "v18" "v19", 2: "v20" "v21" "v22" "v23",
                3: "v24" "v25" "v26" "v27"
            ),
            5 => walk!(
                CORE, is_f16(ELEMENT), V, sums, walk,
                0: "v12" "v13" "v14" "v15", 1: "v16" "v17" "v18" "v19", 2: "v20" "v21" "v22" "v23",
                3: "v24" "v25" "v26" "v27", 4: "v28" "v29" "v30" "v31"
            ),
            _ => unreachable!("a tile of {V} vectors"),
        }
    }
}
