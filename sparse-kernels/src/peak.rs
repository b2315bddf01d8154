//! What this core can do at most: the yardstick of every kernel.

use std::hint::black_box;
use std::time::Instant;

/// Multiply-adds a second that this core reaches right now, from some ten microseconds of work in registers. Clocks drift:
/// measure it beside what it is compared with.
pub fn multiply_adds_per_second() -> f64 {
    const ROUNDS: usize = 10_000;
    let start = Instant::now();
    let lanes = multiply_adds(ROUNDS);
    (ROUNDS * lanes) as f64 / start.elapsed().as_secs_f64()
}

/// Runs `rounds` times some independent multiply-adds in registers; returns how many a round has.
pub fn multiply_adds(rounds: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        #[target_feature(enable = "avx2,fma")]
        fn run(rounds: usize) -> usize {
            use std::arch::x86_64::*;
            let mut sums = [_mm256_set1_ps(black_box(1.0)); 12];
            let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-3)));
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, a, b);
                }
            }
            black_box(sums);
            12 * 8
        }
        // SAFETY: AVX2 and FMA have just been detected.
        return unsafe { run(rounds) };
    }
    let mut sums = [black_box(1f32); 64];
    let (a, b) = (black_box(0.999f32), black_box(1e-3f32));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = *sum * a + b;
        }
    }
    black_box(sums);
    sums.len()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_core_does_something() {
        assert!(super::multiply_adds_per_second() > 1e6);
    }
}
