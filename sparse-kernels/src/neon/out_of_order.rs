//! Cores that rename registers (Cortex-A76 and wider): the loops over 4x4 blocks and over groups of
//! 1, 2 and 4 rows.
//!
//! Such a core starts two multiply-adds and two loads a cycle in any order, and works ahead of what waits:
//! the inputs of the next column need no registers of their own, which makes room for more sums. That is what
//! counts, because bias, clamp and store take turns with the multiply-adds in the same two pipes, and there
//! is one passage through a loop's entry for all of them.
//!
//! **Registers.** Weights in v0, inputs behind it, one after the other in turn, sums at the end:
//!
//! | rows | vectors of pixels | sums | inputs | columns that four weights are enough for |
//! |---|---|---|---|---|
//! | 1 | 10 | 10 | 10 | 4 |
//! | 2 | 10 | 20 | 10 | 2 |
//! | 4 | 7 | 28 | 3 | 1 |
//!
//! **Schedule.** Four rows: in the order of need. The multiply-adds of a column, or a block of four, take
//! longer than the way from its index to its inputs. Inputs are loaded two vectors before they are used, for
//! the sake of smaller cores of the same phone, which wait otherwise. One and two rows are bound by loads:
//! inputs come in pairs, but for the last vector of a tile, which ends at its last pixel; indices come in
//! pairs as well, two columns before the address is computed, two before it is used, because in the queue of
//! loads they would wait behind the inputs. Then 10 vectors of one row take 5.6 cycles a column, of which 5
//! multiply, of two rows 10, of four rows 7 vectors take 14.
//!
//! Cycles are modelled, not measured; `scripts/neon-cost.sh` models whole layers.

use super::walk::{Walk, walk_first};
use crate::table::Element;
use crate::vector::{F32x4, is_f16, is_int8};
use std::arch::asm;

/// Vectors of pixels of a tile of `rows` rows.
const fn most_vectors(rows: usize) -> usize {
    if rows == 4 { 7 } else { 10 }
}

/// The loop over columns for the vectors that are listed with the registers of their sums.
///
/// The text is a program for the assembler. `$place` brings what differs between panels and images, three
/// macros of it: `pc_address` makes the place of a column of its index, `pc_load` loads vector `v` of the
/// inputs there, `pc_pair` two from byte `at` on. `.Lk` counts vectors.
macro_rules! walk {
    (($r:expr, $c:expr, $v:expr, $sums:ident, ($place:literal, $($operands:tt)*), ($($input:tt)*)),
     $(($vector:literal $($row:literal $register:tt)*))*) => {
        asm!(
            ".altmacro",
            $place,
            r"
            .arch_extension fp16
            .arch_extension bf16
            .arch_extension dotprod
            .macro pc_multiply_add sum, x, lane
                .if {pairs}
                    bfdot v\sum\().4s, v\x\().8h, v0.2h[\lane]
                .elseif {halves}
                    fmla v\sum\().8h, v\x\().8h, v0.h[\lane]
                .elseif {quads}
                    sdot v\sum\().4s, v\x\().16b, v0.4b[\lane]
                .else
                    fmla v\sum\().4s, v\x\().4s, v0.s[\lane]
                .endif
            .endm
            .macro pc_weights count
                .if {halves} && \count == 4
                    ldr d0, [{values}], 8
                .elseif {halves} && \count == 2
                    ldr s0, [{values}], 4
                .elseif {halves}
                    ldr h0, [{values}]
                .elseif \count == 4
                    ldr q0, [{values}], 16
                .elseif \count == 2
                    ldr d0, [{values}], 8
                .else
                    ldr s0, [{values}]
                .endif
            .endm
            .macro pc_input base, k
                .if \k < {v}
                    .set .Lx, 1 + \k % {inputs}
                    .if {r} == 4 || \k == {v} - 1 || (\k % 2 == 0 && \k == {v} - 2)
                        pc_load %(.Lx), \base, \k
                    .elseif \k % 2 == 0
                        pc_pair %(.Lx), %(.Lx + 1), \base, %(16*\k)
                    .endif
                .endif
            .endm
            .macro pc_column base, lane
                pc_input \base, 0
                pc_input \base, 1
                .set .Lk, 0
                .rept {v}
                    pc_input \base, %(.Lk + 2)
                    .set .Lr, 0
                    .rept {r}
                        pc_multiply_add %({sums} + {r}*.Lk + .Lr), %(1 + .Lk % {inputs}), %(\lane + .Lr)
                        .set .Lr, .Lr + 1
                    .endr
                    .set .Lk, .Lk + 1
                .endr
            .endm
            .macro pc_two_indices
                ldp w16, w17, [{indices}], 8
            .endm
            .macro pc_columns_ahead count
                .set .Lw, 0
                .rept \count
                    pc_column %(12 + .Lw % 2), %({r}*.Lw)
                    pc_address %(12 + .Lw % 2), %(16 + .Lw % 2)
                    .if .Lw % 2 == 1
                        pc_two_indices
                    .endif
                    .set .Lw, .Lw + 1
                .endr
            .endm

                .if {r} < 4
                    pc_two_indices
                    pc_address 12, 16
                    pc_address 13, 17
                    pc_two_indices
                    subs {blocks}, {blocks}, {round}
                    b.lt 3f
                .endif
            2:
                .if {r} < 4
                    pc_weights 4
                    pc_columns_ahead {round}
                    subs {blocks}, {blocks}, {round}
                    b.ge 2b
                .else
                    ldr w12, [{indices}], 4
                    pc_address 12, 12
                    .set .Lc, 0
                    .rept {c}
                        pc_weights 4
                        .if .Lc > 0
                            add x12, x12, {stride}
                        .endif
                        pc_column 12, 0
                        .set .Lc, .Lc + 1
                    .endr
                    subs {blocks}, {blocks}, 1
                    b.ne 2b
                .endif
            3:
                .if {r} == 1
                    tbz {blocks}, 1, 4f
                    pc_weights 2
                    pc_columns_ahead 2
                .endif
            4:
                .if {r} < 4
                    tbz {blocks}, 0, 5f
                    pc_weights {r}
                    pc_column 12, 0
                .endif
            5:

            .irp name, address, load, pair, multiply_add, weights, input, column, two_indices, columns_ahead
                .purgem pc_\name
            .endr
            ",
            r = const $r,
            c = const $c,
            v = const $v,
            // Columns that four weights are enough for.
            round = const 4 / $r,
            inputs = const if $r == 4 { 3 } else { 10 },
            sums = const 32 - $r * most_vectors($r),
            $($operands)*
            out("v0") _, $(out($input) _,)*
            out("x12") _, out("x13") _, out("x16") _, out("x17") _,
            $($(inout($register) $sums[$row][$vector].0,)*)*
            options(readonly, nostack),
        )
    };
}

/// [`walk_first`] for the registers of every number of rows.
macro_rules! walk_rows {
    ($r:ident, $c:ident, $v:expr, $sums:ident, $place:tt) => {
        match $r {
            1 => walk_first!(
                walk, $v, (1, $c, $v, $sums, $place, ("v1" "v2" "v3" "v4" "v5" "v6" "v7" "v8" "v9" "v10")), ()
                (0 0 "v22") (1 0 "v23") (2 0 "v24") (3 0 "v25") (4 0 "v26")
                (5 0 "v27") (6 0 "v28") (7 0 "v29") (8 0 "v30") (9 0 "v31")
            ),
            2 => walk_first!(
                walk, $v, (2, $c, $v, $sums, $place, ("v1" "v2" "v3" "v4" "v5" "v6" "v7" "v8" "v9" "v10")), ()
                (0 0 "v12" 1 "v13") (1 0 "v14" 1 "v15") (2 0 "v16" 1 "v17") (3 0 "v18" 1 "v19") (4 0 "v20" 1 "v21")
                (5 0 "v22" 1 "v23") (6 0 "v24" 1 "v25") (7 0 "v26" 1 "v27") (8 0 "v28" 1 "v29") (9 0 "v30" 1 "v31")
            ),
            _ => walk_rows!(@four $c, $v, $sums, $place),
        }
    };
    (@four $c:expr, $v:expr, $sums:ident, $place:tt) => {
        walk_first!(
            walk, $v, (4, $c, $v, $sums, $place, ("v1" "v2" "v3")), ()
            (0 0 "v4" 1 "v5" 2 "v6" 3 "v7") (1 0 "v8" 1 "v9" 2 "v10" 3 "v11") (2 0 "v12" 1 "v13" 2 "v14" 3 "v15")
            (3 0 "v16" 1 "v17" 2 "v18" 3 "v19") (4 0 "v20" 1 "v21" 2 "v22" 3 "v23")
            (5 0 "v24" 1 "v25" 2 "v26" 3 "v27") (6 0 "v28" 1 "v29" 2 "v30" 3 "v31")
        )
    };
}

/// Adds all blocks of `R` rows and `C` columns to `sums`.
///
/// # Safety
/// NEON is there, and for quads the dot product; `walk` keeps the invariants of [`Walk`], and its `blocks` is not zero.
#[inline(always)]
pub(crate) unsafe fn multiply_add<
    const CORE: u8,
    const ELEMENT: u8,
    const R: usize,
    const C: usize,
    const V: usize,
>(
    sums: &mut [[F32x4<CORE, ELEMENT>; V]; R],
    walk: &Walk,
) {
    // SAFETY: reads what `Walk` has vouched for.
    unsafe {
        walk_rows!(R, C, V, sums, (
            r"
            .macro pc_address base, index
                madd x\base, x\index, {stride}, {x}
            .endm
            .macro pc_load vector, base, v
                .if \v == {v} - 1
                    ldr q\vector, [x\base, {last}]
                .else
                    ldr q\vector, [x\base, 16*\v]
                .endif
            .endm
            .macro pc_pair first, second, base, at
                ldp q\first, q\second, [x\base, \at]
            .endm
            ",
            halves = const is_f16(ELEMENT) as u8,
            pairs = const (ELEMENT == Element::Bf16 as u8) as u8,
            quads = const is_int8(ELEMENT) as u8,
            indices = inout(reg) walk.indices => _,
            blocks = inout(reg) walk.blocks => _,
            values = inout(reg) walk.values => _,
            x = in(reg) walk.x,
            stride = in(reg) walk.stride,
            last = in(reg) walk.last,
        ))
    }
}

/// Adds `columns` columns of four weights to `sums`, where every vector of inputs has a base of its own.
///
/// # Safety
/// NEON is there; `columns` is not zero; that number of offsets, in bytes, is valid at `offsets` and four times as
/// many floats, or halves, at `values`; at each offset from each of `bases` is a whole vector.
#[inline(always)]
pub(crate) unsafe fn gather<const CORE: u8, const ELEMENT: u8, const V: usize>(
    sums: &mut [[F32x4<CORE, ELEMENT>; V]; 4],
    bases: &[*const f32; V],
    offsets: *const u32,
    values: *const f32,
    columns: usize,
) {
    let base = |v: usize| bases[v.min(V - 1)];
    // SAFETY: reads what the caller has vouched for.
    unsafe {
        walk_rows!(@four 1, V, sums, (
            r"
            .macro pc_address base, index
            .endm
            .macro pc_load vector, offset, v
                .irp base, 0, 1, 2, 3, 4, 5, 6
                    .if \v == \base
                        ldr q\vector, [x\base, x\offset]
                    .endif
                .endr
            .endm
            .macro pc_pair first, second, base, at
            .endm
            ",
            halves = const is_f16(ELEMENT) as u8,
            pairs = const 0,
            quads = const 0,
            // Not read: a stride is for blocks of several columns.
            stride = in(reg) 0usize,
            in("x0") base(0),
            in("x1") base(1),
            in("x2") base(2),
            in("x3") base(3),
            in("x4") base(4),
            in("x5") base(5),
            in("x6") base(6),
            indices = inout(reg) offsets => _,
            blocks = inout(reg) columns => _,
            values = inout(reg) values => _,
        ))
    }
}
