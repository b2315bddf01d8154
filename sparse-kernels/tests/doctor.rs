//! The check of every kernel, and the peaks it compares them with. Both time what runs, so that they are tested in
//! optimised builds.

#![cfg(not(miri))]

use sparse_kernels::doctor::check::check;
use sparse_kernels::doctor::peak;
use sparse_kernels::prelude::*;

#[test]
fn every_kernel_is_checked_and_right() {
    let mut said = 0;
    let all = check(&mut |_| said += 1).unwrap();
    assert_eq!(all.len(), said);
    let available = table::pointwise_available().count()
        + table::pointwise_half_available().count()
        + table::pointwise_int8_available().count()
        + table::depthwise_available().count()
        + table::depthwise_half_available().count()
        + table::depthwise_int8_available().count()
        + table::spatial_available().count()
        + table::spatial_half_available().count()
        + table::spatial_int8_available().count();
    assert_eq!(all.len(), available);
    for check in all {
        assert!(check.is_right(), "{check:?}");
        assert!(check.speed > 0.0 && check.peak > 0.0, "{check:?}");
        // Loops of plain Rust reach their peak in optimised builds only, and emulators have none. Clocks drift by some
        // per cent while all kernels are timed.
        let native = cfg!(all(target_arch = "x86_64", not(debug_assertions)));
        assert!(!native || check.speed <= 1.05 * check.peak, "{check:?}");
    }
}

#[test]
fn every_target_has_a_peak() {
    for target in Target::available() {
        assert!(peak::multiply_adds_per_second(target) > 1e6, "{target}");
    }
    for half in Half::available() {
        assert!(peak::half_multiply_adds_per_second(half) > 1e6, "{half:?}");
    }
    for int8 in Int8::available() {
        assert!(peak::int8_multiply_adds_per_second(int8) > 1e6, "{int8:?}");
    }
}
