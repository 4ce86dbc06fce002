//! Block-sparse attention from a block table (BigBird).
//!
//! Query block b of head h sees the key blocks that the table lists, each `count` times in the same
//! softmax: a block drawn twice weighs twice. Masked queries give zeros. Shapes: q k v o `[B, S, C]`
//! with S a multiple of K, key_state `[B, S]` i32 (0 masked); row_ptr `[H * (n + 1)]`, col and count
//! `[pairs of blocks]` i32, n = S/K; the inverse table leads from key blocks to query blocks.
//! HF `BigBirdPegasusBlockSparseAttention`, which has no attention dropout.

use super::{Attention, dimensions, scale};
use crate::device::cpu::attention::{self, Pattern, Problem};
use crate::device::cpu::philox::Mask;
use crate::device::{CpuCall, Kernel};
use crate::error::{Error, Result};
use crate::ops::{Gradient, OpSpec};
use crate::tape::Tape;
use crate::tensor::Tensor;

pub static OP: OpSpec = OpSpec {
    name: "block_sparse_attention",
    gradient: Gradient::Recorded,
    kernels: &[&FORWARD, &BACKWARD],
};

static FORWARD: Kernel = Kernel {
    name: "block_sparse_attention_fwd",
    outputs: &["o", "lse"],
    inputs: &["q", "k", "v", "key_state", "row_ptr", "col", "count"],
    sizes: &["B", "H", "D", "S", "K"],
    scalars: &["scale"],
    cpu: |call: &mut CpuCall| {
        let (o, lse) = (call.out(0), call.out(1));
        let (q, k, v) = (call.input(0), call.input(1), call.input(2));
        attention::forward(o, lse, q, k, v, &problem(call), &pattern(call, 3));
    },
};

static BACKWARD: Kernel = Kernel {
    name: "block_sparse_attention_bwd",
    outputs: &["dq", "dk", "dv"],
    inputs: &[
        "do", "q", "k", "v", "o", "lse", "key_state", "row_ptr", "col", "count", "inverse_row_ptr", "inverse_col",
        "inverse_count",
    ],
    sizes: &["B", "H", "D", "S", "K", "add_q", "add_k", "add_v"],
    scalars: &["scale"],
    cpu: |call: &mut CpuCall| {
        let (dq, dk, dv) = (call.out(0), call.out(1), call.out(2));
        let accumulate = [5, 6, 7].map(|i| call.size(i) == 1);
        let (d_o, o, lse) = (call.input(0), call.input(4), call.input(5));
        let (q, k, v) = (call.input(1), call.input(2), call.input(3));
        let (problem, pattern) = (problem(call), pattern(call, 6));
        attention::backward(dq, dk, dv, accumulate, d_o, q, k, v, o, lse, &problem, &pattern);
    },
};

fn problem(call: &CpuCall) -> Problem {
    let [batch, heads, head_size, s] = call.sizes();
    Problem {
        batch,
        heads,
        head_size,
        queries: s,
        keys: s,
        key_rows: s,
        scale: call.scalar(0),
        dropout: Mask::new(0, 0, 0.0),
    }
}

fn pattern<'a>(call: &CpuCall<'a>, first: usize) -> Pattern<'a> {
    Pattern::Blocks {
        size: call.size(4),
        key_state: call.input(first),
        row_ptr: call.input(first + 1),
        col: call.input(first + 2),
        count: call.input(first + 3),
    }
}

/// A block table and its inverse on a device.
#[derive(Clone)]
pub struct Blocks {
    /// `[H * (n + 1)]`.
    pub row_ptr: Tensor,
    pub col: Tensor,
    pub count: Tensor,
    pub inverse_row_ptr: Tensor,
    pub inverse_col: Tensor,
    pub inverse_count: Tensor,
}

/// Who sees whom.
#[derive(Clone, Copy)]
pub struct BlockSparse<'a> {
    pub heads: usize,
    /// K.
    pub block_size: usize,
    pub blocks: &'a Blocks,
    /// `[B, S]` i32.
    pub key_state: &'a Tensor,
}

/// o `[B, S, C]`, zeros in masked rows.
pub fn block_sparse_attention(
    tape: &Tape,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    pattern: BlockSparse,
) -> Result<Tensor> {
    let BlockSparse {
        heads,
        block_size,
        blocks,
        key_state,
    } = pattern;
    q.same_shape("block_sparse_attention", k)?;
    let [b, h, d, s, _] = dimensions("block_sparse_attention", [q, k, v], heads)?;
    let n = s / block_size;
    if !s.is_multiple_of(block_size) || blocks.row_ptr.len() != h * (n + 1) || key_state.len() != b * s {
        let want = format!("S a multiple of {block_size} and a table for it");
        return Err(Error::shape("block_sparse_attention", want, q.shape()));
    }
    let forward_inputs: Vec<Option<Tensor>> = [key_state, &blocks.row_ptr, &blocks.col, &blocks.count]
        .map(|t| Some(t.clone()))
        .into();
    let inverse = [&blocks.inverse_row_ptr, &blocks.inverse_col, &blocks.inverse_count].map(|t| Some(t.clone()));
    let attention = Attention {
        forward: &FORWARD,
        backward: &BACKWARD,
        heads,
        backward_inputs: forward_inputs.iter().cloned().chain(inverse).collect(),
        forward_inputs,
        sizes: vec![b, h, d, s, block_size],
        randomness: None,
        scalars: vec![scale(d)],
        pairs: (b * blocks.col.len() * block_size * block_size) as u64,
    };
    attention.run(tape, q, k, v)
}
