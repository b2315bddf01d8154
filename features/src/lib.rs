//! Nothing but dependencies.
//!
//! Cargo builds a crate that several crates depend on once for every set of features that is asked for. Tests
//! of one crate alone (`cargo test -p X`) would ask for fewer than those of the whole workspace, and tract,
//! which takes minutes, would be built again. So every crate that uses tract depends on this one for its
//! tests, and this one on all that asks for more. `tests/alone.rs` shows where that is not enough.
