//! Benchmarks: the same work again and again, and what the times look like.

pub mod attention;
pub mod baseline;
pub mod gemm;
pub mod generate;
pub mod kernels;
pub mod limits;
pub mod repeat;
pub mod step;
