//! Differentiable operations: each checks shapes, launches a kernel and records its gradient.
//!
//! Shape legend: `B` batch, `T` query length, `S` key length, `C` channels (d_model), `H` heads,
//! `D` head size, `F` ffn size, `V` vocabulary, `W` one-sided window, `G` global tokens, `K` block
//! size, `R` random blocks, `N` rows, `M` labelled rows. Tensors are row-major contiguous; heads
//! lie side by side in the last dimension, so `[B, T, C]` is `[B, T, H, D]`.

pub mod activation;
pub mod adamw;
pub mod argmax;
pub mod attention;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod global_attention;
pub mod gradient_norm;
pub mod layer_norm;
pub mod linear;
pub mod rows;

use crate::device::{Call, Kernel};
use crate::tensor::Tensor;
use crate::{tape, tensor};

/// Whether an op passes gradients on, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradient {
    Recorded,
    None(&'static str),
}

/// A position that moves on from step to step.
#[derive(Clone, Copy)]
pub struct Position<'a> {
    /// What the host checks and counts by.
    pub value: usize,
    /// `[1]` i32: the same, as kernels read it. In memory rather than among the arguments of launches, so
    /// that a recorded step is replayed at another position.
    pub on_device: &'a Tensor,
}

/// One op, as tests, benchmarks and the profiler see it.
pub struct OpSpec {
    pub name: &'static str,
    pub gradient: Gradient,
    pub kernels: &'static [&'static Kernel],
}

/// Every kernel that ops, tapes and tensors launch.
pub fn kernels() -> Vec<&'static Kernel> {
    let ops = ALL.iter().flat_map(|op| op.kernels);
    let mut all: Vec<&'static Kernel> = ops.chain(tape::KERNELS).chain(tensor::KERNELS).copied().collect();
    all.sort_by_key(|kernel| kernel.name);
    all.dedup_by_key(|kernel| kernel.name);
    all
}

/// Every op.
pub static ALL: &[&OpSpec] = &[
    &activation::OP,
    &adamw::OP,
    &argmax::OP,
    &attention::block_sparse_attention::OP,
    &cross_entropy::OP,
    &attention::decode_attention::OP,
    &attention::dense_attention::OP,
    &dropout::OP,
    &embedding::OP,
    &global_attention::OP,
    &gradient_norm::OP,
    &layer_norm::OP,
    &linear::OP,
    &rows::OP,
    &attention::window_attention::OP,
];

/// Elements of 16 bytes, the most that a thread of `call`'s kernel moves at once.
fn wide(call: &Call) -> usize {
    16 / call.real().size()
}

/// Blocks of 256 threads for `n` elements, `wide` of them to a thread.
fn wide_blocks(call: &Call, n: usize) -> usize {
    n.div_ceil(256 * wide(call))
}

/// Threads of a block that goes through a row of `n` elements, four at a time.
fn row_threads(n: usize) -> u32 {
    n.div_ceil(4).next_multiple_of(32).clamp(32, 1024) as u32
}
