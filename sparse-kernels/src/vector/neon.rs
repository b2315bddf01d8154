//! aarch64 Advanced SIMD: 32 registers of 4 floats, or of 4 lanes with two halves each.
//!
//! Instructions for halves have no intrinsics that stable Rust knows: they are assembly, each a function of
//! registers that the compiler may move.

use super::{BYTES, Order, Vector, into_row};
use crate::table::Element;
use crate::target::Core;
use crate::work::Work;
use std::arch::aarch64::*;
use std::arch::asm;

/// Four floats, for the class of cores with the number `CORE` of [`Core`]; or four lanes of another type, the
/// [`Element`] with the number `ELEMENT`. Those of f16 are computed as such: every function is one of both
/// halves, but for those that convert.
#[derive(Clone, Copy)]
pub(crate) struct F32x4<const CORE: u8 = { Core::Any as u8 }, const ELEMENT: u8 = { Element::F32 as u8 }>(
    pub(crate) float32x4_t,
);

/// One instruction for vectors of halves, of the sources and of what is given for its result.
macro_rules! halves {
    ($instruction:literal, $($source:ident = $value:expr),*) => {{
        let result: float32x4_t;
        asm!(
            ".arch_extension fp16",
            $instruction,
            r = lateout(vreg) result,
            $($source = in(vreg) $value,)*
            options(pure, nomem, nostack, preserves_flags),
        );
        result
    }};
}

/// Whether lanes are pairs of f16.
pub(crate) const fn is_f16(element: u8) -> bool {
    element == Element::F16 as u8
}

/// Whether lanes are quads of bytes.
pub(crate) const fn is_int8(element: u8) -> bool {
    element == Element::Int8 as u8
}

/// A vector of a row, taken where all of it is inside the row, and which of its bytes go where.
#[derive(Clone, Copy)]
pub(crate) struct Edge {
    /// Floats from the column of the load to that vector.
    shift: isize,
    /// Numbers above 15 give zeros.
    index: uint8x16_t,
}

impl<const CORE: u8, const ELEMENT: u8> Vector for F32x4<CORE, ELEMENT> {
    const LANES: usize = 4;
    const ELEMENT: Element = Element::numbered(ELEMENT);
    const FREE_MASKS: bool = false;
    const STORES_TWO: bool = true;
    type Narrow = Self;
    type Edge = Edge;

    #[inline(always)]
    unsafe fn on(work: impl Work) {
        #[target_feature(enable = "neon")]
        fn on(work: impl Work) {
            work.run();
        }
        // SAFETY: contract of `Vector`.
        unsafe { on(work) }
    }

    /// Of f16 the number nearest to `v`.
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe {
            let v = vdupq_n_f32(v);
            if is_f16(ELEMENT) {
                halves!("fcvtn {r:v}.4h, {v:v}.4s\ndup {r:v}.8h, {r:v}.h[0]", v = v)
            } else {
                v
            }
        })
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe { vld1q_f32(p) })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: contract of `Vector`.
        unsafe { vst1q_f32(p, self.0) }
    }

    #[inline(always)]
    unsafe fn store_two(self, next: Self, p: *mut f32) {
        // SAFETY: contract of `Vector`.
        unsafe { vst1q_f32_x2(p, float32x4x2_t(self.0, next.0)) }
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        // SAFETY: contract of `Vector`: lanes 0..n are stored, `n` is 1, 2 or 3.
        unsafe {
            if n >= 2 {
                vst1_f32(p, vget_low_f32(self.0));
            } else {
                vst1q_lane_f32::<0>(p, self.0);
            }
            if n == 3 {
                vst1q_lane_f32::<2>(p.add(2), self.0);
            }
        }
    }

    #[inline(always)]
    unsafe fn edge(column: isize, width: usize) -> Edge {
        let (shift, bytes) = into_row(column, width);
        // SAFETY: contract of `Vector`; the array has 16 bytes.
        Edge { shift, index: unsafe { vsubq_u8(vld1q_u8(BYTES.as_ptr()), vdupq_n_u8(bytes)) } }
    }

    #[inline(always)]
    unsafe fn load_edge(p: *const f32, edge: Edge) -> Self {
        // SAFETY: contract of `Vector`: all of the vector at `shift` is inside the row.
        unsafe {
            let v = vreinterpretq_u8_f32(vld1q_f32(p.wrapping_offset(edge.shift)));
            F32x4(vreinterpretq_f32_u8(vqtbl1q_u8(v, edge.index)))
        }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe {
            if is_f16(ELEMENT) {
                halves!("fadd {r:v}.8h, {a:v}.8h, {b:v}.8h", a = self.0, b = b.0)
            } else {
                vaddq_f32(self.0, b.0)
            }
        })
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe {
            if is_f16(ELEMENT) {
                let mut sum = c.0;
                asm!(
                    ".arch_extension fp16",
                    "fmla {c:v}.8h, {a:v}.8h, {b:v}.8h",
                    c = inout(vreg) sum,
                    a = in(vreg) self.0,
                    b = in(vreg) b.0,
                    options(pure, nomem, nostack, preserves_flags),
                );
                sum
            } else {
                vfmaq_f32(c.0, self.0, b.0)
            }
        })
    }

    /// The products of pairs of bf16 are exact, and denormals count as zero; sums are rounded to odd.
    #[inline(always)]
    unsafe fn dot(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            match Self::ELEMENT {
                Element::Bf16 => {
                    let mut sum = c.0;
                    asm!(
                        ".arch_extension bf16",
                        "bfdot {c:v}.4s, {a:v}.8h, {b:v}.8h",
                        c = inout(vreg) sum,
                        a = in(vreg) self.0,
                        b = in(vreg) b.0,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                    F32x4(sum)
                }
                _ => self.mul_add(b, c),
            }
        }
    }

    #[inline(always)]
    unsafe fn widen(self) -> [Self; 2] {
        // SAFETY: contract of `Vector`.
        unsafe {
            match Self::ELEMENT {
                Element::Bf16 => {
                    let lanes = vreinterpretq_u32_f32(self.0);
                    [vshlq_n_u32::<16>(lanes), vandq_u32(lanes, vdupq_n_u32(0xffff_0000))]
                        .map(|bits| F32x4(vreinterpretq_f32_u32(bits)))
                }
                Element::F16 => {
                    let halves = vreinterpretq_u16_f32(self.0);
                    let [first, second] = [vuzp1q_u16(halves, halves), vuzp2q_u16(halves, halves)];
                    [
                        F32x4(halves!("fcvtl {r:v}.4s, {v:v}.4h", v = first)),
                        F32x4(halves!("fcvtl {r:v}.4s, {v:v}.4h", v = second)),
                    ]
                }
                _ => unreachable!("for vectors of pairs"),
            }
        }
    }

    #[inline(always)]
    unsafe fn pair(first: Self, second: Self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            match Self::ELEMENT {
                Element::Bf16 => {
                    let [first, second] = [first, second].map(|v| {
                        // denormals keep their sign alone
                        let magnitude = vdupq_n_u32(0x7fff_ffff);
                        let denormal = vcagtq_f32(vdupq_n_f32(f32::MIN_POSITIVE), v.0);
                        let bits = vbicq_u32(vreinterpretq_u32_f32(v.0), vandq_u32(denormal, magnitude));
                        let v = vreinterpretq_f32_u32(bits);
                        let rounded: float32x4_t;
                        asm!(
                            ".arch_extension bf16",
                            "bfcvtn {r:v}.4h, {v:v}.4s",
                            r = lateout(vreg) rounded,
                            v = in(vreg) v,
                            options(pure, nomem, nostack, preserves_flags),
                        );
                        vreinterpretq_u16_f32(rounded)
                    });
                    F32x4(vreinterpretq_f32_u16(vzip1q_u16(first, second)))
                }
                Element::F16 => {
                    let first = halves!("fcvtn {r:v}.4h, {v:v}.4s", v = first.0);
                    let second = halves!("fcvtn {r:v}.4h, {v:v}.4s", v = second.0);
                    let [first, second] = [first, second].map(|v| vreinterpretq_u16_f32(v));
                    F32x4(vreinterpretq_f32_u16(vzip1q_u16(first, second)))
                }
                _ => unreachable!("for vectors of pairs"),
            }
        }
    }

    /// Weights of four outputs are loaded together and picked by lane.
    #[inline(always)]
    unsafe fn add_column<const R: usize, const N: usize>(
        sums: &mut [[Self; N]; R],
        x: &[Self; N],
        w: *const f32,
    ) {
        // SAFETY: contract of `Vector`.
        unsafe {
            if is_f16(ELEMENT) {
                return add_column_of_halves(sums, x, w.cast());
            }
            for quad in (0..R / 4 * 4).step_by(4) {
                let w = vld1q_f32(w.add(quad));
                for n in 0..N {
                    let x = x[n].0;
                    sums[quad][n].0 = vfmaq_laneq_f32::<0>(sums[quad][n].0, x, w);
                    sums[quad + 1][n].0 = vfmaq_laneq_f32::<1>(sums[quad + 1][n].0, x, w);
                    sums[quad + 2][n].0 = vfmaq_laneq_f32::<2>(sums[quad + 2][n].0, x, w);
                    sums[quad + 3][n].0 = vfmaq_laneq_f32::<3>(sums[quad + 3][n].0, x, w);
                }
            }
            for r in R / 4 * 4..R {
                for n in 0..N {
                    sums[r][n].0 = vfmaq_n_f32(sums[r][n].0, x[n].0, *w.add(r));
                }
            }
        }
    }

    /// vmax and vmin give NaN if either operand is NaN.
    #[inline(always)]
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe {
            if is_f16(ELEMENT) {
                let above = halves!("fmax {r:v}.8h, {a:v}.8h, {b:v}.8h", a = lo.0, b = self.0);
                halves!("fmin {r:v}.8h, {a:v}.8h, {b:v}.8h", a = hi.0, b = above)
            } else {
                vminq_f32(hi.0, vmaxq_f32(lo.0, self.0))
            }
        })
    }

    #[inline(always)]
    unsafe fn regroup(self, next: Self) -> [Self; 2] {
        // SAFETY: contract of `Vector`.
        unsafe {
            let [a, b] = [self, next].map(|v| vreinterpretq_u16_f32(v.0));
            [vtrn1q_u16(a, b), vtrn2q_u16(a, b)].map(|pairs| F32x4(vreinterpretq_f32_u16(pairs)))
        }
    }

    #[inline(always)]
    unsafe fn apart(self, next: Self) -> [Self; 2] {
        // SAFETY: contract of `Vector`.
        unsafe {
            let [a, b] = [self, next].map(|v| vreinterpretq_u16_f32(v.0));
            [vuzp1q_u16(a, b), vuzp2q_u16(a, b)].map(|halves| F32x4(vreinterpretq_f32_u16(halves)))
        }
    }

    #[inline(always)]
    unsafe fn beside(self, second: Self) -> [Self; 2] {
        // SAFETY: contract of `Vector`.
        unsafe {
            let [a, b] = [self, second].map(|v| vreinterpretq_u16_f32(v.0));
            [vzip1q_u16(a, b), vzip2q_u16(a, b)].map(|pairs| F32x4(vreinterpretq_f32_u16(pairs)))
        }
    }

    #[inline(always)]
    unsafe fn floats(self) -> [Self; 2] {
        // SAFETY: contract of `Vector`.
        unsafe {
            [
                F32x4(halves!("fcvtl {r:v}.4s, {v:v}.4h", v = self.0)),
                F32x4(halves!("fcvtl2 {r:v}.4s, {v:v}.8h", v = self.0)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn permute(self, order: &Order) -> Self {
        // SAFETY: contract of `Vector`; an order has at least eight numbers.
        unsafe {
            // The bytes of every lane, four, or two of a half.
            let order = order.as_ptr();
            let bytes = if is_f16(ELEMENT) {
                let order = vcombine_u16(vmovn_u32(vld1q_u32(order)), vmovn_u32(vld1q_u32(order.add(4))));
                vreinterpretq_u8_u16(vmlaq_n_u16(vdupq_n_u16(0x0100), order, 0x0202))
            } else {
                vreinterpretq_u8_u32(vmlaq_n_u32(vdupq_n_u32(0x0302_0100), vld1q_u32(order), 0x0404_0404))
            };
            F32x4(vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(self.0), bytes)))
        }
    }

    #[inline(always)]
    unsafe fn deinterleave(self, b: Self) -> (Self, Self) {
        // SAFETY: contract of `Vector`.
        unsafe { (F32x4(vuzp1q_f32(self.0, b.0)), F32x4(vuzp2q_f32(self.0, b.0))) }
    }

    #[inline(always)]
    unsafe fn load_evens(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe { vld2q_f32(p).0 })
    }
}

/// [`Vector::add_column`] for halves: weights of four outputs are loaded together and picked by lane.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn add_column_of_halves<const CORE: u8, const ELEMENT: u8, const R: usize, const N: usize>(
    sums: &mut [[F32x4<CORE, ELEMENT>; N]; R],
    x: &[F32x4<CORE, ELEMENT>; N],
    w: *const u16,
) {
    /// A multiply-add by lane of weights, which are in one of the first sixteen registers.
    macro_rules! multiply_add {
        ($sum:expr, $x:expr, $w:expr, $lane:literal) => {
            asm!(
                ".arch_extension fp16",
                concat!("fmla {sum:v}.8h, {x:v}.8h, {w:v}.h[", $lane, "]"),
                sum = inout(vreg) $sum.0,
                x = in(vreg) $x.0,
                w = in(vreg_low16) $w,
                options(pure, nomem, nostack, preserves_flags),
            )
        };
    }
    // SAFETY: contract of `Vector`; registers are all that the instructions change.
    unsafe {
        for quad in (0..R / 4 * 4).step_by(4) {
            let w = vld1_u16(w.add(quad));
            for n in 0..N {
                multiply_add!(sums[quad][n], x[n], w, "0");
                multiply_add!(sums[quad + 1][n], x[n], w, "1");
                multiply_add!(sums[quad + 2][n], x[n], w, "2");
                multiply_add!(sums[quad + 3][n], x[n], w, "3");
            }
        }
        for r in R / 4 * 4..R {
            let w = vld1_dup_u16(w.add(r));
            for n in 0..N {
                multiply_add!(sums[r][n], x[n], w, "0");
            }
        }
    }
}
