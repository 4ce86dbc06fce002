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
use super::tile::{self, Entries, Tile, entries};
use super::{Attention, Side, backward_cpu, dimensions, forward_cpu, hopper};
use crate::device::cpu::attention::{self as cpu, Pattern, Sizes};
use crate::device::{Call, CpuCall, Gpu, Kernel, Pass};
use crate::error::{Error, Result};
use crate::ops::{Gradient, OpSpec};
use crate::shape::Element;
use crate::tape::Tape;
use crate::tensor::Tensor;

pub static OP: OpSpec =
    OpSpec { name: "block_sparse_attention", gradient: Gradient::Recorded, kernels: &[&FORWARD, &BACKWARD] };

static FORWARD: Kernel = Kernel {
    name: "block_sparse_attention_fwd",
    outputs: &["o", "lse", "partial"],
    inputs: &["q", "k", "v", "key_state", "row_ptr", "col", "count", "work", "joins"],
    sizes: &["B", "H", "D", "S", "K", "items"],
    scalars: &["scale"],
    cpu: |call: &mut CpuCall| forward_cpu(call, operands, operands),
    gpu: Gpu::Passes(forward_passes),
};

static BACKWARD: Kernel = Kernel {
    name: "block_sparse_attention_bwd",
    outputs: &["dq", "dk", "dv", "lse_delta", "partial"],
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
    sizes: &["B", "H", "D", "S", "K", "items", "inverse_items", "add_q", "add_k", "add_v"],
    scalars: &["scale"],
    cpu: |call: &mut CpuCall| backward_cpu(call, operands, operands),
    gpu: Gpu::Passes(backward_passes),
};

fn forward_passes(call: &Call) -> Vec<Pass> {
    const ENTRIES: Entries = entries!("block_sparse_attention_fwd", 16 32 64 128);
    let [d, s] = call.sizes(["D", "S"]);
    let all = if hopper::serves_blocks(call) {
        const HOPPER: [&str; 2] =
            ["block_sparse_attention_fwd_hopper_d64", "block_sparse_attention_fwd_hopper_d128"];
        let tile = hopper::Tile::lists(d);
        let pass = tile.each(tile.of_head(HOPPER), neighbours(call, &tile, "items"));
        Some(pass.maps(hopper::maps(call, ["k", "v"], s, s)))
    } else {
        let tile = Tile::forward_in_blocks(call.real(), d);
        tile.pass(ENTRIES, call, d, blocks(call, tile.rows, "items"))
    };
    let join = join("block_sparse_attention_fwd_join", call, "joins");
    all.into_iter().chain(join).collect()
}

fn backward_passes(call: &Call) -> Vec<Pass> {
    const QUERIES: Entries = entries!("block_sparse_attention_bwd_q", 16 32 64 128);
    const KEYS: Entries = entries!("block_sparse_attention_bwd_kv", 16 32 64 128);
    const HOPPER: [[&str; 2]; 2] = [
        ["block_sparse_attention_bwd_q_hopper_d64", "block_sparse_attention_bwd_kv_hopper_d64"],
        ["block_sparse_attention_bwd_q_hopper_d128", "block_sparse_attention_bwd_kv_hopper_d128"],
    ];
    let [d, s] = call.sizes(["D", "S"]);
    let passes = if hopper::serves_blocks(call) {
        let tile = hopper::Tile::lists_backward(d);
        let blocks = ["items", "inverse_items"].map(|items| neighbours(call, &tile, items));
        let maps = [["k", "v"], ["q", "d_o"]].map(|both| hopper::maps(call, both, s, s));
        tile.backward_passes("block_sparse_attention_bwd", tile.of_head(HOPPER), call, blocks, maps)
    } else {
        let tile = Tile::backward(call.real(), d);
        let blocks = ["items", "inverse_items"].map(|items| blocks(call, tile.rows, items));
        tile::backward_passes("block_sparse_attention_bwd", [QUERIES, KEYS], call, tile, blocks)
    };
    // The joins of a pass come before the next one writes its parts to the same place.
    let with_join = |pass: Pass| {
        let join = match pass.entry {
            entry if QUERIES.contains(&entry) || HOPPER.iter().any(|of| entry == of[0]) => {
                join("block_sparse_attention_bwd_q_join", call, "joins")
            }
            entry if KEYS.contains(&entry) || HOPPER.iter().any(|of| entry == of[1]) => {
                join("block_sparse_attention_bwd_kv_join", call, "inverse_joins")
            }
            _ => None,
        };
        [Some(pass), join].into_iter().flatten()
    };
    passes.into_iter().flat_map(with_join).collect()
}

/// Tiles of rows of so many items of all samples, of which each lies in one block of the table.
fn blocks(call: &Call, rows: usize, items: &str) -> usize {
    let [b, block, items] = call.sizes(["B", "K", items]);
    b * items * block.div_ceil(rows)
}

/// Blocks of threads where each has neighbouring tiles of a sample.
fn neighbours(call: &Call, tile: &hopper::Tile, items: &str) -> usize {
    let [b, block, items] = call.sizes(["B", "K", items]);
    b * tile.blocks_of(items * block.div_ceil(64))
}

/// Joins the lists in input `joins`, 16 rows of a sample to a block; none where no list is cut.
fn join(entry: &'static str, call: &Call, joins: &str) -> Option<Pass> {
    let [b, block] = call.sizes(["B", "K"]);
    let lists = b * call.input(joins).len / 3;
    (lists > 0).then(|| Pass::new(entry, lists, tile::THREADS).y(block.div_ceil(16)))
}

/// The operands of the forward and of the backward.
fn operands<'a, E: Element>(call: &CpuCall<'a>) -> cpu::Attention<'a, E> {
    let [b, h, d, s, block] = call.sizes(["B", "H", "D", "S", "K"]);
    cpu::Attention {
        q: call.input("q"),
        k: call.input("k"),
        v: call.input("v"),
        sizes: Sizes { b, t: s, s, h, d, s_capacity: s },
        scale: call.scalar("scale"),
        pattern: Pattern::BlockSparse {
            block,
            key_state: call.input("key_state"),
            row_ptr: call.input("row_ptr"),
            col: call.input("col"),
            count: call.input("count"),
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
    let Blocks { keys, queries } = blocks;
    let forward_inputs = vec![
        ("key_state", Some(key_state.clone())),
        ("row_ptr", Some(keys.row_ptr.clone())),
        ("col", Some(keys.col.clone())),
        ("count", Some(keys.count.clone())),
        ("work", Some(keys.work.clone())),
        ("joins", Some(keys.joins.clone())),
    ];
    let inverse_inputs = vec![
        ("inverse_row_ptr", Some(queries.row_ptr.clone())),
        ("inverse_col", Some(queries.col.clone())),
        ("inverse_count", Some(queries.count.clone())),
        ("inverse_work", Some(queries.work.clone())),
        ("inverse_joins", Some(queries.joins.clone())),
    ];
    let backward_inputs = [forward_inputs.clone(), inverse_inputs].concat();
    // A part leaves the sums of its rows, in the forward with their maximum and total: dq, or dk and dv.
    let of_parts = |lists: &Lists, row: usize| b * lists.slots * block_size * row;
    let forward_partial = of_parts(keys, d + 2);
    let backward_partial = of_parts(keys, d).max(of_parts(queries, 2 * d));
    let items = ("items", keys.items());
    let sizes = vec![("B", b), ("H", h), ("D", d), ("S", s), ("K", block_size), items];
    let inverse_sizes = [&sizes[..], &[("inverse_items", queries.items())]].concat();
    let attention = Attention {
        heads,
        forward: Side { kernel: &FORWARD, inputs: forward_inputs, sizes, partial: Some(forward_partial) },
        backward: Side {
            kernel: &BACKWARD,
            inputs: backward_inputs,
            sizes: inverse_sizes,
            partial: Some(backward_partial),
        },
        dropout: None,
        pairs: (b * keys.col.len() * block_size * block_size) as u64,
    };
    attention.run(tape, q, k, v)
}
