//! Kernels and whole models, timed.
