//! The simulator against kernels with one planted fault each: every one must be named.

mod graph;
mod planted;
