//! What this core can do at most: the yardstick of every kernel.

use crate::pairs::{self, f16};
use crate::quads;
use crate::table::Element;
use crate::target::{Half, Int8, Isa, Target};
use std::hint::black_box;
use std::time::Instant;

/// Multiply-adds a second that this core reaches right now with the vectors of `target`, from some ten
/// microseconds of work in registers. Clocks drift and others use the core, too: take the best of several,
/// measured beside what it is compared with.
pub fn multiply_adds_per_second(target: Target) -> f64 {
    const ROUNDS: usize = 5_000;
    let start = Instant::now();
    let lanes = multiply_adds(target, ROUNDS);
    (ROUNDS * lanes) as f64 / start.elapsed().as_secs_f64()
}

/// [`multiply_adds_per_second`] of half precision: multiply-adds of channels, two to a lane where the instruction
/// takes pairs.
pub fn half_multiply_adds_per_second(half: Half) -> f64 {
    const ROUNDS: usize = 5_000;
    let start = Instant::now();
    let lanes = half_multiply_adds(half, ROUNDS);
    (ROUNDS * lanes) as f64 / start.elapsed().as_secs_f64()
}

/// [`multiply_adds_per_second`] of int8: multiply-adds of channels, four to a lane.
pub fn int8_multiply_adds_per_second(int8: Int8) -> f64 {
    const ROUNDS: usize = 5_000;
    let start = Instant::now();
    let lanes = int8_multiply_adds(int8, ROUNDS);
    (ROUNDS * lanes) as f64 / start.elapsed().as_secs_f64()
}

/// Independent sums in vector registers, each multiplied and added to once a round.
///
/// Their number covers the latency of a multiply-add on every port that has one, and leaves registers for the
/// factors.
macro_rules! sums {
    ($rounds:ident, $sums:literal x $lanes:literal, $set:ident, $multiply_add:expr) => {{
        let mut sums = [$set(black_box(1.0)); $sums];
        let (a, b) = ($set(black_box(0.999)), $set(black_box(1e-3)));
        for _ in 0..$rounds {
            for sum in &mut sums {
                *sum = $multiply_add(*sum, a, b);
            }
        }
        black_box(sums);
        $sums * $lanes
    }};
}

/// Runs `rounds` times some independent multiply-adds in the registers of `target`; returns how many a round
/// has.
pub fn multiply_adds(target: Target, rounds: usize) -> usize {
    match target.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            #[target_feature(enable = "avx512f")]
            fn run(rounds: usize) -> usize {
                use std::arch::x86_64::*;
                sums!(rounds, 24 x 16, _mm512_set1_ps, |sum, a, b| _mm512_fmadd_ps(sum, a, b))
            }
            // SAFETY: a `Target` of AVX-512 is proof that it was detected.
            unsafe { run(rounds) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            #[target_feature(enable = "avx2,fma")]
            fn run(rounds: usize) -> usize {
                use std::arch::x86_64::*;
                sums!(rounds, 12 x 8, _mm256_set1_ps, |sum, a, b| _mm256_fmadd_ps(sum, a, b))
            }
            // SAFETY: a `Target` of AVX2 is proof that it and FMA were detected.
            unsafe { run(rounds) }
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            #[target_feature(enable = "neon")]
            fn run(rounds: usize) -> usize {
                use std::arch::aarch64::*;
                sums!(rounds, 24 x 4, vdupq_n_f32, |sum, a, b| vfmaq_f32(sum, a, b))
            }
            // SAFETY: a `Target` of NEON is proof that it was detected.
            unsafe { run(rounds) }
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Isa::Wasm => {
            use std::arch::wasm32::f32x4_splat;
            sums!(rounds, 12 x 4, f32x4_splat, crate::vector::multiply_add)
        }
        Isa::Scalar => plain(rounds),
        _ => plain(rounds),
    }
}

/// [`multiply_adds`] of half precision.
pub fn half_multiply_adds(half: Half, rounds: usize) -> usize {
    match half.target().isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            #[target_feature(enable = "avx512f,avx512bf16")]
            fn run(rounds: usize) -> usize {
                use std::arch::x86_64::*;
                let pairs = |v: f32| _mm512_cvtne2ps_pbh(_mm512_set1_ps(v), _mm512_set1_ps(v));
                let mut sums = [_mm512_set1_ps(black_box(1.0)); 24];
                let (a, b) = (pairs(black_box(0.999)), pairs(black_box(1e-3)));
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = _mm512_dpbf16_ps(*sum, a, b);
                    }
                }
                black_box(sums);
                24 * 32
            }
            // SAFETY: `Half` of AVX-512 is proof that it and AVX512-BF16 were detected.
            unsafe { run(rounds) }
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon if half.element() == Element::Bf16 => {
            use crate::vector::{F32x4, Vector};
            type Pairs = F32x4<0, { Element::Bf16 as u8 }>;
            // SAFETY: `Half` of NEON is proof that it and the instructions for bf16 were detected.
            unsafe {
                let set = |v: f32| Pairs::splat(f32::from_bits(pairs::pair(v, v)));
                sums!(rounds, 24 x 8, set, |sum, a, b| Pairs::dot(a, b, sum))
            }
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            use crate::vector::{F32x4, Vector};
            type Halves = F32x4<0, { Element::F16 as u8 }>;
            // SAFETY: `Half` of NEON is proof that it and the instructions for f16 were detected.
            unsafe {
                let set = |v: f32| Halves::splat(v);
                sums!(rounds, 24 x 8, set, |sum, a, b| Halves::mul_add(a, b, sum))
            }
        }
        _ if half.element() == Element::F16 => {
            let mut sums = [black_box(f16::round(1.0)); 16];
            let (a, b) = (black_box(f16::round(0.999)), black_box(f16::round(1e-3)));
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = f16::mul_add(a, b, *sum);
                }
            }
            black_box(sums);
            16
        }
        _ => {
            let mut sums = [black_box(1.0); 16];
            let (a, b) = (pairs::pair(black_box(0.999), 0.999), pairs::pair(black_box(1e-3), 1e-3));
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = pairs::dot(a, b, *sum);
                }
            }
            black_box(sums);
            16 * 2
        }
    }
}

/// [`multiply_adds`] of int8.
pub fn int8_multiply_adds(int8: Int8, rounds: usize) -> usize {
    match int8.target().isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            #[target_feature(enable = "avx512f,avx512vnni")]
            fn run(rounds: usize) -> usize {
                use std::arch::x86_64::*;
                let mut sums = [_mm512_set1_epi32(black_box(1)); 24];
                let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-1)));
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = _mm512_dpbusd_epi32(*sum, a, b);
                    }
                }
                black_box(sums);
                24 * 64
            }
            // SAFETY: `Int8` of AVX-512 is proof that it and AVX512-VNNI were detected.
            unsafe { run(rounds) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if int8.target().core() == crate::target::Core::Vnni => {
            #[target_feature(enable = "avx2,avxvnni")]
            fn run(rounds: usize) -> usize {
                use std::arch::x86_64::*;
                let mut sums = [_mm256_set1_epi32(black_box(1)); 12];
                let (a, b) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(-1)));
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = _mm256_dpbusd_avx_epi32(*sum, a, b);
                    }
                }
                black_box(sums);
                12 * 32
            }
            // SAFETY: `Int8` of AVX-VNNI is proof that it was detected.
            unsafe { run(rounds) }
        }
        _ => {
            let mut sums = [black_box(1.0); 16];
            let (a, b) = (quads::lane([black_box(3); 4]), quads::lane([black_box(255); 4]));
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = quads::dot(a, b, *sum);
                }
            }
            black_box(sums);
            16 * 4
        }
    }
}

/// The same without intrinsics, in the vectors that every machine of this architecture has, product and sum
/// apart.
fn plain(rounds: usize) -> usize {
    let set = |value: f32| [value; 4];
    let multiply_add =
        |sum: [f32; 4], a: [f32; 4], b: [f32; 4]| std::array::from_fn(|i| sum[i] * a[i] + b[i]);
    sums!(rounds, 12 x 4, set, multiply_add)
}
