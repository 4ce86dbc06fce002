//! Benchmarks: the same work again and again, and what the times look like.

pub mod generate;
pub mod kernels;
pub mod step;
