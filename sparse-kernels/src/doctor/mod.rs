//! What a machine is and does: whether its kernels agree with the plain ones, how fast it can be at most, and
//! what it is called. Nothing is computed or decided by it.

pub mod check;
pub mod machine;
pub mod marks;
pub mod peak;
