//! Block-sparse attention from a block table (BigBird).
//!
//! Query block b of head h sees the key blocks that the table lists, each `count` times in the same
//! softmax: a block drawn twice weighs twice. Masked queries give zeros. Shapes: q k v o `[B, S, C]`
//! with S a multiple of K, key_state `[B, S]` i32 (0 masked); row_ptr `[H * (n + 1)]`, col and count
//! `[pairs of blocks]` i32, n = S/K; the inverse table leads from key blocks to query blocks.
//! HF `BigBirdPegasusBlockSparseAttention`, which has no attention dropout. On a GPU long lists are walked
//! in parts: partial holds what each finds for the rows of its block, forward `[slots, B, K, D + 2]`,
//! backward `[slots, B, K, D]` or, over the inverse table, `[slots, B, K, 2, D]`.

pub use super::block_table::Blocks;
use super::block_table::Lists;
use super::tile::{self, Entries, Tile};
use super::{Attention, Side, dimensions, gradients, scale};
use crate::device::cpu::attention::{self as cpu, Pattern, Sizes};
use crate::device::{Call, CpuCall, Gpu, Kernel, Pass};
use crate::error::{Error, Result};
use crate::ops::{Gradient, OpSpec};
use crate::tape::Tape;
use crate::tensor::Tensor;

pub static OP: OpSpec =
    OpSpec { name: "block_sparse_attention", gradient: Gradient::Recorded, kernels: &[&FORWARD, &BACKWARD] };

static FORWARD: Kernel = Kernel {
    name: "block_sparse_attention_fwd",
    outputs: &["o", "lse", "partial"],
    inputs: &["q", "k", "v", "key_state", "row_ptr", "col", "count", "work", "joins"],
    sizes: &["B", "H", "D", "S", "K"],
    scalars: &["scale"],
    cpu: |call: &mut CpuCall| {
        let (o, lse) = (call.out(0), call.out(1));
        cpu::attention_forward(o, lse, &operands(call, 0));
    },
    gpu: Gpu::Passes(forward_passes),
};

static BACKWARD: Kernel = Kernel {
    name: "block_sparse_attention_bwd",
    outputs: &["dq", "dk", "dv", "delta", "partial"],
    inputs: &[
        "d_o",
        "q",
        "k",
        "v",
        "o",
        "lse",
        "key_state",
        "row_ptr",
        "col",
        "count",
        "work",
        "joins",
        "inverse_row_ptr",
        "inverse_col",
        "inverse_count",
        "inverse_work",
        "inverse_joins",
    ],
    sizes: &["B", "H", "D", "S", "K", "add_q", "add_k", "add_v"],
    scalars: &["scale"],
    cpu: |call: &mut CpuCall| {
        let gradients = gradients(call, 5);
        let (d_o, o, lse) = (call.input(0), call.input(4), call.input(5));
        cpu::attention_backward(gradients, d_o, o, lse, &operands(call, 1));
    },
    gpu: Gpu::Passes(backward_passes),
};

fn forward_passes(call: &Call) -> Vec<Pass> {
    const ENTRIES: Entries = [
        "block_sparse_attention_fwd_d16",
        "block_sparse_attention_fwd_d32",
        "block_sparse_attention_fwd_d64",
        "block_sparse_attention_fwd_d128",
    ];
    let d = call.size(2);
    let tile = Tile::forward_in_blocks(call.real(), d);
    let all = tile.pass(ENTRIES, call, d, blocks(call, tile, 7));
    let join = join("block_sparse_attention_fwd_join", call, 8);
    all.into_iter().chain(join).collect()
}

fn backward_passes(call: &Call) -> Vec<Pass> {
    const QUERIES: Entries = [
        "block_sparse_attention_bwd_q_d16",
        "block_sparse_attention_bwd_q_d32",
        "block_sparse_attention_bwd_q_d64",
        "block_sparse_attention_bwd_q_d128",
    ];
    const KEYS: Entries = [
        "block_sparse_attention_bwd_kv_d16",
        "block_sparse_attention_bwd_kv_d32",
        "block_sparse_attention_bwd_kv_d64",
        "block_sparse_attention_bwd_kv_d128",
    ];
    let tile = Tile::backward(call.real(), call.size(2));
    let blocks = [blocks(call, tile, 10), blocks(call, tile, 15)];
    let passes = tile::backward_passes("block_sparse_attention_bwd", [QUERIES, KEYS], call, tile, blocks);
    // The joins of a pass come before the next one writes its parts to the same place.
    let with_join = |pass: Pass| {
        let join = match pass.entry {
            entry if QUERIES.contains(&entry) => join("block_sparse_attention_bwd_q_join", call, 11),
            entry if KEYS.contains(&entry) => join("block_sparse_attention_bwd_kv_join", call, 16),
            _ => None,
        };
        [Some(pass), join].into_iter().flatten()
    };
    passes.into_iter().flat_map(with_join).collect()
}

/// Tiles of rows of the items in input `work`, of which each lies in one block of the table.
fn blocks(call: &Call, tile: Tile, work: usize) -> usize {
    let [b, _, _, _, block] = call.sizes();
    b * call.inputs[work].len / 4 * block.div_ceil(tile.rows)
}

/// Joins the lists in input `joins`, 16 rows of a sample to a block; none where no list is cut.
fn join(entry: &'static str, call: &Call, joins: usize) -> Option<Pass> {
    let [b, _, _, _, block] = call.sizes();
    let lists = b * call.inputs[joins].len / 3;
    (lists > 0).then(|| Pass::new(entry, lists, tile::THREADS).y(block.div_ceil(16)))
}

/// The operands that start at input `q`; the pattern follows k and v, in the backward o and lse too.
fn operands<'a>(call: &CpuCall<'a>, q: usize) -> cpu::Attention<'a> {
    let [b, h, d, s, block] = call.sizes();
    let (t, s_capacity) = (s, s);
    let extra = if q == 0 { 3 } else { 6 };
    cpu::Attention {
        q: call.input(q),
        k: call.input(q + 1),
        v: call.input(q + 2),
        sizes: Sizes { b, t, s, h, d, s_capacity },
        scale: call.scalar(0),
        pattern: Pattern::BlockSparse {
            block,
            key_state: call.input(extra),
            row_ptr: call.input(extra + 1),
            col: call.input(extra + 2),
            count: call.input(extra + 3),
        },
        dropout: None,
    }
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
    let BlockSparse { heads, block_size, blocks, key_state } = pattern;
    q.same_shape("block_sparse_attention", k)?;
    let [b, h, d, s, _] = dimensions("block_sparse_attention", [q, k, v], heads)?;
    // No block size gives no block, which no table describes.
    let n = s.checked_div(block_size).unwrap_or(0);
    if !s.is_multiple_of(block_size) || blocks.keys.row_ptr.len() != h * (n + 1) || key_state.len() != b * s {
        let want = format!("S a multiple of {block_size} and a table for it");
        return Err(Error::shape("block_sparse_attention", want, q.shape()));
    }
    let inputs = |lists: &Lists| {
        [&lists.row_ptr, &lists.col, &lists.count, &lists.work, &lists.joins].map(|t| Some(t.clone()))
    };
    let forward_inputs: Vec<_> = [Some(key_state.clone())].into_iter().chain(inputs(&blocks.keys)).collect();
    let backward_inputs = forward_inputs.iter().cloned().chain(inputs(&blocks.queries)).collect();
    // A part leaves the sums of its rows, in the forward with their maximum and total: dq, or dk and dv.
    let of_parts = |lists: &Lists, row: usize| b * lists.slots * block_size * row;
    let forward_partial = of_parts(&blocks.keys, d + 2);
    let backward_partial = of_parts(&blocks.keys, d).max(of_parts(&blocks.queries, 2 * d));
    let sizes = vec![b, h, d, s, block_size];
    let attention = Attention {
        heads,
        forward: Side {
            kernel: &FORWARD,
            inputs: forward_inputs,
            sizes: sizes.clone(),
            partial: Some(forward_partial),
        },
        backward: Side { kernel: &BACKWARD, inputs: backward_inputs, sizes, partial: Some(backward_partial) },
        dropout: None,
        scalars: vec![scale(d)],
        pairs: (b * blocks.keys.col.len() * block_size * block_size) as u64,
    };
    attention.run(tape, q, k, v)
}
