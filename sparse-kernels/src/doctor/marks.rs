//! Marks around what a tool shall count that watches an emulated aarch64 program (`scripts/neon-cost.sh`).

/// Begins what is counted: `hint #112`, which no core gives a meaning. Nothing on other machines.
#[inline(always)]
pub fn begin() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint without meaning does nothing.
    unsafe {
        std::arch::asm!("hint #112")
    }
}

/// Ends what is counted: `hint #113`.
#[inline(always)]
pub fn end() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("hint #113")
    }
}
