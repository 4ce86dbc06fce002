//! Dense attention: causal, cross, and with masked keys.
//!
//! Shapes: q `[B, T, C]`, k v `[B, rows, C]` of which the first `key_len` = S count, key_state
//! `[B, rows]` i32 (0 masked). HF `LEDDecoderAttention`, `BigBirdPegasusSelfAttention`. On a GPU keys are
//! split where queries are few (one alone, over a cache, is `decode_attention`); partial holds what a split
//! finds for each row of q: forward `[splits, B, H, T, D + 2]`, backward `[splits, B, H, T, D]`.

use super::tile::{self, Entries, Tile, entries};
use super::{Attention, Side, backward_cpu, dimensions, forward_cpu, hopper};
use crate::device::cpu::attention::{self as cpu, Pattern, Sizes};
use crate::device::cpu::philox::Mask;
use crate::device::{Call, CpuCall, Gpu, Kernel, Pass};
use crate::error::{Error, Result};
use crate::ops::{Gradient, OpSpec};
use crate::shape::Element;
use crate::tape::{Dropout, Tape};
use crate::tensor::Tensor;

pub static OP: OpSpec =
    OpSpec { name: "dense_attention", gradient: Gradient::Recorded, kernels: &[&FORWARD, &BACKWARD] };

static FORWARD: Kernel = Kernel {
    name: "dense_attention_fwd",
    outputs: &["o", "lse", "partial"],
    inputs: &["q", "k", "v", "key_state", "randomness"],
    sizes: &["B", "H", "D", "T", "S", "rows", "causal", "offset", "splits", "site"],
    scalars: &["scale", "p"],
    cpu: |call: &mut CpuCall| forward_cpu(call, operands, operands),
    gpu: Gpu::Passes(forward_passes),
};

static BACKWARD: Kernel = Kernel {
    name: "dense_attention_bwd",
    outputs: &["dq", "dk", "dv", "lse_delta", "partial"],
    inputs: &["d_o", "q", "k", "v", "o", "lse", "key_state", "randomness"],
    sizes: &[
        "B", "H", "D", "T", "S", "rows", "causal", "offset", "splits", "site", "add_q", "add_k", "add_v",
    ],
    scalars: &["scale", "p"],
    cpu: |call: &mut CpuCall| backward_cpu(call, operands, operands),
    gpu: Gpu::Passes(backward_passes),
};

fn forward_passes(call: &Call) -> Vec<Pass> {
    const NARROW: Entries = entries!("dense_attention_fwd", 16 32 64 128);
    const WIDE: Entries = entries!("dense_attention_fwd_wide", 16 32 64);
    let [b, h, d, t, splits] = call.sizes(["B", "H", "D", "T", "splits"]);
    let [s, key_rows] = call.sizes(["S", "rows"]);
    let first = if hopper::serves(call) {
        let tile = hopper::Tile::dense(d);
        let entry = tile.of_head(["dense_attention_fwd_hopper_d64", "dense_attention_fwd_hopper_d128"]);
        let pass = tile.each(entry, b * h * t.div_ceil(tile.rows()));
        Some(pass.maps(hopper::maps(call, ["k", "v"], key_rows, s)))
    } else {
        let tile = Tile::forward(call.real(), d, b * h, t, call.scalar("p"));
        tile.pass(tile.choose(NARROW, WIDE), call, d, b * h * t.div_ceil(tile.rows))
    };
    let rows = if splits > 1 { b * h * t } else { 0 };
    let join = tile::pass("dense_attention_fwd_join", rows * 32);
    first.map(|pass| pass.y(splits)).into_iter().chain(join).collect()
}

fn backward_passes(call: &Call) -> Vec<Pass> {
    const QUERIES: Entries = entries!("dense_attention_bwd_q", 16 32 64 128);
    const KEYS: Entries = entries!("dense_attention_bwd_kv", 16 32 64 128);
    let [b, h, d, t, s, rows, splits] = call.sizes(["B", "H", "D", "T", "S", "rows", "splits"]);
    const HOPPER: [[&str; 2]; 2] = [
        ["dense_attention_bwd_q_hopper_d64", "dense_attention_bwd_kv_hopper_d64"],
        ["dense_attention_bwd_q_hopper_d128", "dense_attention_bwd_kv_hopper_d128"],
    ];
    let blocks = |tile_rows: usize| [t, rows].map(|rows| b * h * rows.div_ceil(tile_rows));
    let mut passes = if hopper::serves(call) {
        let tile = hopper::Tile::dense_backward(d);
        let maps = [hopper::maps(call, ["k", "v"], rows, s), hopper::maps(call, ["q", "d_o"], t, t)];
        let blocks = blocks(tile.rows());
        tile.backward_passes("dense_attention_bwd", tile.of_head(HOPPER), call, blocks, maps)
    } else {
        let tile = Tile::backward(call.real(), d);
        tile::backward_passes("dense_attention_bwd", [QUERIES, KEYS], call, tile, blocks(tile.rows))
    };
    let queries = |pass: &Pass| QUERIES.contains(&pass.entry) || HOPPER.iter().any(|of| pass.entry == of[0]);
    if let Some(at) = passes.iter().position(queries) {
        passes[at] = passes[at].y(splits);
        if splits > 1 {
            let join = tile::pass("dense_attention_bwd_q_join", call.output("dq").len);
            passes.splice(at + 1..at + 1, join);
        }
    }
    passes
}

/// The operands of the forward and of the backward.
fn operands<'a, E: Element>(call: &CpuCall<'a>) -> cpu::Attention<'a, E> {
    let [b, h, d, t, s, s_capacity] = call.sizes(["B", "H", "D", "T", "S", "rows"]);
    let mask = Mask::of_site(call.input("randomness"), call.size("site"), call.scalar("p"));
    cpu::Attention {
        q: call.input("q"),
        k: call.input("k"),
        v: call.input("v"),
        sizes: Sizes { b, t, s, h, d, s_capacity },
        scale: call.scalar("scale"),
        pattern: Pattern::Dense {
            causal: (call.size("causal") == 1).then(|| call.size("offset")),
            key_state: Some(call.input("key_state")).filter(|state: &&[i32]| !state.is_empty()),
        },
        dropout: Some(mask).filter(|mask| !mask.is_off()),
    }
}

/// Who sees whom.
#[derive(Clone)]
pub struct Dense<'a> {
    pub heads: usize,
    /// Keys that count, of the rows that k and v have.
    pub key_len: usize,
    /// Query i sees keys up to i + offset only.
    pub causal: Option<usize>,
    /// `[B, rows]` i32, 0 for masked.
    pub key_state: Option<&'a Tensor>,
    /// On the probabilities.
    pub dropout: Dropout,
}

/// o `[B, T, C]`.
pub fn dense_attention(tape: &Tape, q: &Tensor, k: &Tensor, v: &Tensor, pattern: Dense) -> Result<Tensor> {
    let Dense { heads, key_len, .. } = pattern;
    let [b, h, d, t, rows] = dimensions("dense_attention", [q, k, v], heads)?;
    if key_len > rows || pattern.key_state.is_some_and(|m| m.len() != b * rows) {
        return Err(Error::shape(
            "dense_attention",
            format!("at least {key_len} keys and a mask [B, rows]"),
            k.shape(),
        ));
    }
    let seen: usize = match pattern.causal {
        None => t * key_len,
        Some(offset) => (0..t).map(|i| key_len.min(i + offset + 1)).sum(),
    };
    let tiles = b * h * t.div_ceil(Tile::backward(q.dtype(), d).rows);
    let splits = tile::tile_splits(tiles, key_len);
    // The sums of a row, their maximum and their total; in the backward, the sums of a row.
    let partial = |splits: usize, row: usize| if splits > 1 { splits * b * h * t * row } else { 0 };
    let side = |kernel, splits: usize, row: usize| Side {
        kernel,
        inputs: vec![("key_state", pattern.key_state.cloned())],
        sizes: vec![
            ("B", b),
            ("H", h),
            ("D", d),
            ("T", t),
            ("S", key_len),
            ("rows", rows),
            ("causal", pattern.causal.is_some() as usize),
            ("offset", pattern.causal.unwrap_or(0)),
            ("splits", splits),
        ],
        partial: Some(partial(splits, row)),
    };
    let attention = Attention {
        heads,
        forward: side(&FORWARD, splits, d + 2),
        backward: side(&BACKWARD, splits, d),
        dropout: Some(pattern.dropout),
        pairs: (b * h * seen) as u64,
    };
    attention.run(tape, q, k, v)
}
