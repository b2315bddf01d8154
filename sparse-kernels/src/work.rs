//! Plain loops, compiled once for every instruction set: what is written over slices whose length the
//! compiler sees becomes vectors of whatever width the CPU has.

use crate::target::{Isa, Target};

/// A loop that is compiled for every instruction set. [`Work::run`] and all that it calls must be
/// `#[inline(always)]`.
pub(crate) trait Work {
    fn run(self);
}

/// Runs `work` with the instructions of `target`.
#[inline]
pub(crate) fn on(target: Target, work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2(work: impl Work) {
            work.run();
        }
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn avx512(work: impl Work) {
            work.run();
        }
        match target.isa() {
            // SAFETY: a `Target` of this instruction set exists only where it has been detected.
            Isa::Avx512 => return unsafe { avx512(work) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2(work) },
            Isa::Scalar | Isa::Neon | Isa::Wasm => {}
        }
    }
    // NEON and simd128 are enabled for all code of the builds that have them.
    let _ = (target, Isa::Scalar);
    work.run();
}
