//! The model families.

pub mod block_plan;
