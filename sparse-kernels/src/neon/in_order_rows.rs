//! Groups of 1, 2 and 4 rows on cores that work in order, a schedule for each class of them.
//!
//! Every stored column has an input channel of its own, and `R` weights for it. That is fewer multiply-adds
//! per load than in a 4x4 block, so that on cores that work in order loads and not multiply-adds decide: what
//! counts is that none of them waits.
//!
//! **Registers.** As in `in_order_blocks`, two sets of inputs and weights: the multiply-adds of one column read
//! one set while the other is loaded for the next column; the loop has two columns. Besides, the address of
//! the column after the next is computed from its index, and the index of the one after that is loaded: so
//! long does it take until an address is known. ([`gather`] has offsets in bytes instead of indices, and
//! nothing to compute.) What is left are the sums:
//!
//! | rows | vectors of pixels | sums | inputs and weights | registers |
//! |---|---|---|---|---|
//! | 1 | 8 | 8 | 2 x 9 | 26 |
//! | 2 | 7 | 14 | 2 x 8 | 30 |
//! | 4 | 5 | 20 | 2 x 6 | 32 |
//!
//! Seven vectors and no more than eight because 7, 14, 28 and 56 pixels a side are sevenths of vectors.
//!
//! **Schedule.** Pieces of a vector are as in `in_order_blocks`: low half, high half to an integer register, and
//! from there to its place. The last piece comes two vectors after the others, when both have arrived; it
//! runs over the end of the column. In cycles for `V` vectors:
//!
//! * Cortex-A55: a multiply-add beside each of the pieces, as far as there are any. One row is bound by
//!   loads, of which one starts in a cycle: 2 V and two more. Two rows: 5 instructions for two multiply-adds,
//!   2.5 V and two more. Four rows: 4 V, all beside multiply-adds.
//! * Cortex-A53: multiply-adds and vector loads in turn, each with another piece beside it. That rhythm is
//!   safe from the rule that no vector load starts four cycles after a multiply-add. One row needs nothing
//!   else: 2 V and two more. For two rows multiply-adds are left at the end of a column, and two cycles
//!   without any between them let the next column begin its loads: 3 V + 3. For four rows the rhythm is that
//!   of `in_order_blocks`, three multiply-adds and a load: 5 V + 2.
//!
//! Blocks of quads are such columns, too: one lane of inputs, and four bytes of weights where floats have one.
//!
//! Cycles are modelled, not measured.

use super::walk::{Walk, walk_first};
#[cfg(doc)]
use crate::LOOK_AHEAD;
use crate::target::Core;
use crate::vector::{F32x4, is_f16, is_int8};
use std::arch::asm;

/// Vectors of pixels of a tile of `rows` rows.
const fn most_vectors(rows: usize) -> usize {
    match rows {
        1 => 8,
        2 => 7,
        _ => 5,
    }
}

/// Registers of a set of inputs and weights. A multiply-add of halves picks weights from the first sixteen
/// registers alone.
const fn set(rows: usize, element: u8) -> usize {
    if rows == 1 && is_f16(element) { 8 } else { most_vectors(rows) + 1 }
}

/// The loop of [`multiply_add`] for the vectors that are listed with the registers of their sums.
///
/// The text is a program for the assembler, as in `in_order_blocks`. `.Ls` is the set that the multiply-adds read
/// and `.Lt` the other, `.Ln` the number of multiply-adds written for this column, `.Lk` counts what is
/// loaded for the next one: the first input, for four rows the weights, the other inputs. `load` says whether
/// there is a next column.
///
/// x9 to x11 and x14 to x16 hold high halves, for the first and the second set; x12 and x13 point to the
/// column whose inputs that set is to get, and are renewed by `pr_address` at the end of a column or, where a
/// load is all it takes, by `pr_early_address` in its middle; w17 is an index.
macro_rules! walk {
    (($r:expr, $core:expr, $element:expr, $v:expr, $sums:ident, ($addressing:literal, $($place:tt)*), ($($more:tt)*)),
     $(($vector:literal $($row:literal $register:tt)*))*) => {
        asm!(
            ".altmacro",
            $addressing,
            r"
            .arch_extension fp16
            .arch_extension dotprod
            .macro pr_multiply_add sum, x, w, lane
                .if {halves}
                    fmla v\sum\().8h, v\x\().8h, v\w\().h[\lane]
                .elseif {quads}
                    sdot v\sum\().4s, v\x\().16b, v\w\().4b[\lane]
                .else
                    fmla v\sum\().4s, v\x\().4s, v\w\().s[\lane]
                .endif
            .endm
            .macro pr_next
                .if .Ln < {r}*{v}
                    pr_multiply_add %({sums} + .Ln), %({set}*.Ls + .Ln/{r}), %({set}*.Ls + {set} - 1), %(.Ln % {r})
                    .set .Ln, .Ln + 1
                .endif
            .endm

            .macro pr_four_weights piece, vector, half
                .if {halves}
                    .if \piece < 2
                        ldr d\vector, [{values}], 8
                    .endif
                .elseif \piece == 0
                    ldr q\vector, [{values}], 16
                .elseif \piece == 1
                    ldr d\vector, [{values}], 16
                .elseif \piece == 2
                    ldr x\half, [{values}, {high_weights}]
                .elseif \piece == 3
                    mov v\vector\().d[1], x\half
                .endif
            .endm
            .macro pr_two_weights vector
                .if {halves}
                    ldr s\vector, [{values}], 4
                .else
                    ldr d\vector, [{values}], 8
                .endif
            .endm
            .macro pr_one_weight vector
                .if {halves}
                    ldr h\vector, [{values}], 2
                .else
                    ldr s\vector, [{values}], 4
                .endif
            .endm
            .macro pr_load piece, k, t
                .set .Lhalf, 9 + 5*\t + \k % 3
                .set .Lv, \k
                .if {r} == 4 && \k > 1
                    .set .Lv, \k - 1
                .endif
                .if {r} == 4 && \k == 1
                    pr_four_weights \piece, %({set}*\t + {set} - 1), %(.Lhalf)
                .else
                    pr_piece \piece, %({set}*\t + .Lv), %(12 + \t), %(.Lv), %(.Lhalf)
                .endif
            .endm
            .macro pr_weights t
                .if {r} == 2
                    pr_two_weights %({set}*\t + {set} - 1)
                .elseif {r} == 1
                    pr_one_weight %({set}*\t + {set} - 1)
                .endif
            .endm
            .macro pr_last_piece load
                .set .Lb, .Lk - {behind}
                .if .Lb >= 0
                    .if \load && ({early} == 0 || .Lb < {loads} - 2)
                        pr_load 3, %(.Lb), %(.Lt)
                    .endif
                .elseif .Lb + {pending} >= 0
                    pr_load 3, %({loads} + .Lb), %(.Ls)
                .endif
            .endm
            .macro pr_early_piece load, k
                .if \load && {early}
                    pr_load 3, %(\k), %(.Lt)
                .endif
            .endm
            .macro pr_count
                .if .Ls == 0
                    subs {columns}, {columns}, 2
                .endif
            .endm

            .macro pr_column_a53 load
                .if \load
                    .if {r} == 1
                        pr_address %(12 + .Ls)
                    .elseif {r} == 2
                        pr_next
                        pr_count
                    .endif
                    pr_weights %(.Lt)
                    .if {r} == 1
                        pr_count
                    .endif
                .endif
                .rept {loads}
                    pr_next
                    .if \load
                        pr_load 2, %(.Lk), %(.Lt)
                    .endif
                    .if {r} == 4
                        pr_next
                        .if .Lk == 0 && \load
                            pr_count
                        .elseif .Lk == 1 && \load
                            pr_early_address %(12 + .Ls)
                        .endif
                        pr_next
                    .endif
                    .if \load
                        pr_load 1, %(.Lk), %(.Lt)
                    .endif
                    pr_last_piece \load
                    .set .Lk, .Lk + 1
                .endr
                .rept {r}*{v}
                    .if {r} == 4 || .Ln < {r}*{v} - 1
                        pr_next
                    .endif
                .endr
                pr_early_piece \load, %({loads} - 2)
                .if {r} > 1 && \load
                    pr_address %(12 + .Ls)
                .endif
                pr_next
                .if {r} == 2
                    pr_early_piece \load, %({loads} - 1)
                .endif
            .endm

            .macro pr_column_a55 load
                .rept {loads}
                    pr_next
                    .if \load
                        pr_load 1, %(.Lk), %(.Lt)
                    .endif
                    .if {r} > 1
                        pr_next
                    .endif
                    .if \load
                        pr_load 2, %(.Lk), %(.Lt)
                    .endif
                    .if {r} == 4
                        pr_next
                    .endif
                    pr_last_piece \load
                    .if .Lk == ({loads} - 1)/2 && \load
                        pr_early_address %(12 + .Ls)
                        pr_weights %(.Lt)
                        pr_count
                    .endif
                    .set .Lk, .Lk + 1
                .endr
                pr_next
                .if \load
                    pr_address %(12 + .Ls)
                .endif
                .rept {r}*{v}
                    pr_next
                .endr
            .endm

            .macro pr_column s, load
                .set .Ls, \s
                .set .Lt, 1 - \s
                .set .Ln, 0
                .set .Lk, 0
                .if {core} == {a53}
                    pr_column_a53 \load
                .else
                    pr_column_a55 \load
                .endif
            .endm

                pr_begin
                pr_weights 0
                .set .Lk, 0
                .rept {loads}
                    .if .Lk < {loads} - {pending}
                        pr_load 0, %(.Lk), 0
                    .else
                        pr_load 1, %(.Lk), 0
                        pr_load 2, %(.Lk), 0
                    .endif
                    .set .Lk, .Lk + 1
                .endr
                subs {columns}, {columns}, 3
                b.lt 3f
            2:
                pr_column 0, 1
                pr_column 1, 1
                b.ge 2b
            3:
                tbz {columns}, 0, 4f
                pr_column 0, 1
                pr_column 1, 0
                b 5f
            4:
                pr_column 0, 0
            5:

            .irp name, multiply_add, next, begin, piece, four_weights, two_weights, one_weight, load, weights, last_piece
                .purgem pr_\name
            .endr
            .irp name, early_piece, count, piece_at, offset, early_address, address, column_a53, column_a55, column
                .purgem pr_\name
            .endr
            ",
            r = const $r,
            v = const $v,
            // What is loaded for a column: weights of single rows and pairs are not in this count.
            loads = const if $r == 4 { $v + 1 } else { $v },
            // How far the last pieces are behind the others, and how many of them are left to the next column.
            behind = const behind($r, $core, $v).0,
            pending = const behind($r, $core, $v).1,
            // Whether one or two of the last pieces are the cycles without multiply-adds at the end of a column (A53).
            early = const ($r > 1 && $core == Core::A53 as u8 && $v >= 3) as u8,
            // Registers of a set, of which the last has the weights, and the first register of sums.
            set = const set($r, $element),
            sums = const 2 * (most_vectors($r) + 1),
            // Beside the low half of four weights the place moves on: A53 has loaded the high half before.
            high_weights = const if $core == Core::A53 as u8 { 8 } else { -8 },
            halves = const is_f16($element) as u8,
            quads = const is_int8($element) as u8,
            core = const $core,
            a53 = const Core::A53 as u8,
            $($place)*
            out("x9") _, out("x10") _, out("x11") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
            out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            $($(inout($register) $sums[$row][$vector].0,)*)*
            $(out($more) _,)*
            options(readonly, nostack),
        )
    };
}

/// How many vectors the last piece of a vector is behind the others, and how many of these are left to the
/// next column.
const fn behind(rows: usize, core: u8, vectors: usize) -> (usize, usize) {
    if vectors < 3 {
        (0, 0)
    } else if core == Core::A55 as u8 || rows == 1 {
        (2, 2)
    } else if rows == 2 {
        (2, 0)
    } else {
        (1, 1)
    }
}

/// [`walk_first`] for the registers of every number of rows.
macro_rules! walk_rows {
    ($r:ident, $core:expr, $element:expr, $v:expr, $sums:ident, $place:tt) => {
        match $r {
            1 => walk_first!(
                walk, $v, (1, $core, $element, $v, $sums, $place, ("v12" "v13" "v14" "v15" "v16" "v17")), ()
                (0 0 "v18") (1 0 "v19") (2 0 "v20") (3 0 "v21") (4 0 "v22") (5 0 "v23") (6 0 "v24") (7 0 "v25")
            ),
            2 => walk_first!(
                walk, $v, (2, $core, $element, $v, $sums, $place, ("v12" "v13" "v14" "v15")), ()
                (0 0 "v16" 1 "v17") (1 0 "v18" 1 "v19") (2 0 "v20" 1 "v21") (3 0 "v22" 1 "v23") (4 0 "v24" 1 "v25")
                (5 0 "v26" 1 "v27") (6 0 "v28" 1 "v29")
            ),
            _ => walk_rows!(@four $core, $element, $v, $sums, $place),
        }
    };
    (@four $core:expr, $element:expr, $v:expr, $sums:ident, $place:tt) => {
        walk_first!(
            walk, $v, (4, $core, $element, $v, $sums, $place, ()), ()
            (0 0 "v12" 1 "v13" 2 "v14" 3 "v15") (1 0 "v16" 1 "v17" 2 "v18" 3 "v19")
            (2 0 "v20" 1 "v21" 2 "v22" 3 "v23") (3 0 "v24" 1 "v25" 2 "v26" 3 "v27")
            (4 0 "v28" 1 "v29" 2 "v30" 3 "v31")
        )
    };
}

/// Adds all columns of a group of `R` rows to `sums`, with the schedule for `CORE`.
///
/// # Safety
/// NEON is there, and for quads the dot product; `walk` keeps the invariants of [`Walk`] for blocks of one column, and its `blocks` is not
/// zero.
#[inline(always)]
pub(crate) unsafe fn multiply_add<const R: usize, const CORE: u8, const ELEMENT: u8, const V: usize>(
    sums: &mut [[F32x4<CORE, ELEMENT>; V]; R],
    walk: &Walk,
) {
    // SAFETY: reads what `Walk` has vouched for.
    unsafe {
        walk_rows!(R, CORE, ELEMENT, V, sums, (
            r"
            .macro pr_piece piece, vector, base, v, half
                .if \v == {v} - 1
                    pr_piece_at \piece, \vector, \base, {last}, {high}, \half
                .else
                    pr_piece_at \piece, \vector, \base, %(16*\v), %(16*\v + 8), \half
                .endif
            .endm
            .macro pr_piece_at piece, vector, base, low, high, half
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
            .macro pr_offset base, high
                madd x\base, x17, {stride}, {x}
                ldr w17, [{indices}], 4
            .endm
            .macro pr_early_address base
            .endm
            .macro pr_address base
                pr_offset \base, 0
            .endm
            .macro pr_begin
                ldp w16, w17, [{indices}], 8
                madd x13, x16, {stride}, {x}
            .endm
            ",
            indices = inout(reg) walk.indices.wrapping_add(1) => _,
            columns = inout(reg) walk.blocks => _,
            values = inout(reg) walk.values => _,
            x = in(reg) walk.x,
            stride = in(reg) walk.stride,
            last = in(reg) walk.last,
            high = in(reg) walk.last + 8,
            inout("x12") walk.first => _,
        ))
    }
}

/// Adds `columns` columns of four weights to `sums`, where every vector of inputs has a base of its own, with
/// the schedule for `CORE`.
///
/// # Safety
/// NEON is there; `columns` is not zero; that number of offsets, in bytes, is valid at `offsets`, and
/// [`LOOK_AHEAD`] more that need not mean anything, and four times as many floats, or halves, at `values`; at each
/// offset from each of `bases` is a whole vector.
#[inline(always)]
pub(crate) unsafe fn gather<const CORE: u8, const ELEMENT: u8, const V: usize>(
    sums: &mut [[F32x4<CORE, ELEMENT>; V]; 4],
    bases: &[*const f32; V],
    offsets: *const u32,
    values: *const f32,
    columns: usize,
) {
    let base = |v: usize| bases[v.min(V - 1)];
    let high = |v: usize| base(v).wrapping_add(2);
    // SAFETY: reads what the caller has vouched for.
    unsafe {
        walk_rows!(@four CORE, ELEMENT, V, sums, (
            r"
            .macro pr_piece piece, vector, offset, v, half
                .if \v == 0
                    pr_piece_at \piece, \vector, \offset, {b0}, {h0}, \half
                .elseif \v == 1
                    pr_piece_at \piece, \vector, \offset, {b1}, {h1}, \half
                .elseif \v == 2
                    pr_piece_at \piece, \vector, \offset, {b2}, {h2}, \half
                .elseif \v == 3
                    pr_piece_at \piece, \vector, \offset, {b3}, {h3}, \half
                .else
                    pr_piece_at \piece, \vector, \offset, {b4}, {h4}, \half
                .endif
            .endm
            .macro pr_piece_at piece, vector, offset, base, high, half
                .if \piece == 0
                    ldr q\vector, [\base, x\offset]
                .elseif \piece == 1
                    ldr d\vector, [\base, x\offset]
                .elseif \piece == 2
                    ldr x\half, [\high, x\offset]
                .else
                    mov v\vector\().d[1], x\half
                .endif
            .endm
            .macro pr_offset offset
                ldr w\offset, [{indices}], 4
            .endm
            .macro pr_early_address offset
                .if {core} != {a53}
                    pr_next
                .endif
                pr_offset \offset
            .endm
            .macro pr_address offset
            .endm
            .macro pr_begin
                ldp w12, w13, [{indices}], 8
            .endm
            ",
            b0 = in(reg) base(0),
            b1 = in(reg) base(1),
            b2 = in(reg) base(2),
            b3 = in(reg) base(3),
            b4 = in(reg) base(4),
            h0 = in(reg) high(0),
            h1 = in(reg) high(1),
            h2 = in(reg) high(2),
            h3 = in(reg) high(3),
            h4 = in(reg) high(4),
            indices = inout(reg) offsets => _,
            columns = inout(reg) columns => _,
            values = inout(reg) values => _,
            out("x12") _,
        ))
    }
}
