//! Benchmarks: the same work again and again, and what the times look like.

pub mod kernels;
pub mod stats;
pub mod step;
