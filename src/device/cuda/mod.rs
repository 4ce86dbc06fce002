//! The `cuda` executor.

pub mod kernels;
