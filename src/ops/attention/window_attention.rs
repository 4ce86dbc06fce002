//! Sliding-window attention with global columns (Longformer).
//!
//! A local query p sees, in one softmax, every global token of its sample and every local token j
//! with |p - j| <= W, all through the same projections; a global token in the window counts once.
//! Masked and global query rows give zeros: global rows have an attention of their own. Shapes:
//! q k v o `[B, S, C]`, key_state `[B, S]` i32 (0 masked, 1 local, 2 global), global_index `[B, G]`
//! i32 ascending, -1 for none. HF `LEDEncoderSelfAttention`. On a GPU the gradients of a global key
//! are summed over spans of queries, into partial `[B, H, spans, G, 2, D]`, and then over the spans.

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
    OpSpec { name: "window_attention", gradient: Gradient::Recorded, kernels: &[&FORWARD, &BACKWARD] };

/// Queries over which one block sums the gradients of global keys, as in kernels/window_attention.cu: no
/// more work than a block of local keys has at W = 512.
const SPAN: usize = 512;

static FORWARD: Kernel = Kernel {
    name: "window_attention_fwd",
    outputs: &["o", "lse"],
    inputs: &["q", "k", "v", "key_state", "global_index", "randomness"],
    sizes: &["B", "H", "D", "S", "W", "G", "site"],
    scalars: &["scale", "p"],
    cpu: |call: &mut CpuCall| forward_cpu(call, operands, operands),
    gpu: Gpu::Passes(forward_passes),
};

static BACKWARD: Kernel = Kernel {
    name: "window_attention_bwd",
    outputs: &["dq", "dk", "dv", "lse_delta", "partial"],
    inputs: &["d_o", "q", "k", "v", "o", "lse", "key_state", "global_index", "randomness"],
    sizes: &["B", "H", "D", "S", "W", "G", "site", "add_q", "add_k", "add_v"],
    scalars: &["scale", "p"],
    cpu: |call: &mut CpuCall| backward_cpu(call, operands, operands),
    gpu: Gpu::Passes(backward_passes),
};

fn forward_passes(call: &Call) -> Vec<Pass> {
    const NARROW: Entries = entries!("window_attention_fwd", 16 32 64 128);
    const WIDE: Entries = entries!("window_attention_fwd_wide", 16 32 64);
    const HOPPER: [&str; 2] = ["window_attention_fwd_hopper_d64", "window_attention_fwd_hopper_d128"];
    let [b, h, d, s] = call.sizes(["B", "H", "D", "S"]);
    if hopper::serves(call) {
        let tile = hopper::Tile::forward(d);
        let pass = tile.pass(HOPPER, b * h * s.div_ceil(tile.rows()));
        return vec![pass.maps(hopper::maps(call, ["k", "v"], s, s))];
    }
    let tile = Tile::forward(call.real(), d, b * h, s, call.scalar("p"));
    tile.pass(tile.choose(NARROW, WIDE), call, d, b * h * s.div_ceil(tile.rows)).into_iter().collect()
}

fn backward_passes(call: &Call) -> Vec<Pass> {
    const QUERIES: Entries = entries!("window_attention_bwd_q", 16 32 64 128);
    const KEYS: Entries = entries!("window_attention_bwd_kv", 16 32 64 128);
    const HOPPER: [[&str; 2]; 2] = [
        ["window_attention_bwd_q_hopper_d64", "window_attention_bwd_kv_hopper_d64"],
        ["window_attention_bwd_q_hopper_d128", "window_attention_bwd_kv_hopper_d128"],
    ];
    let [b, h, d, s, g] = call.sizes(["B", "H", "D", "S", "G"]);
    // Tiles of queries, and of keys: local ones, and global ones with each span of queries.
    let tiles = |rows: usize| {
        let local = s.div_ceil(rows);
        [b * h * local, b * h * (local + s.div_ceil(SPAN) * g.div_ceil(rows))]
    };
    let keys_wanted = tile::is_wanted(call, "dk") || tile::is_wanted(call, "dv");
    let mut passes = if hopper::serves(call) {
        let tile = hopper::Tile::backward(d);
        let blocks = tiles(tile.rows()).map(hopper::one_after_the_other);
        let maps = [["k", "v"], ["q", "d_o"]].map(|both| hopper::maps(call, both, s, s));
        tile.backward_passes("window_attention_bwd", tile.of_head(HOPPER), call, blocks, maps)
    } else {
        let tile = Tile::backward(call.real(), d);
        tile::backward_passes("window_attention_bwd", [QUERIES, KEYS], call, tile, tiles(tile.rows))
    };
    if call.output("partial").len > 0 && keys_wanted {
        passes.extend(tile::pass("window_attention_bwd_global", b * g * h * d));
    }
    passes
}

/// The operands of the forward and of the backward.
fn operands<'a, E: Element>(call: &CpuCall<'a>) -> cpu::Attention<'a, E> {
    let [b, h, d, s, window] = call.sizes(["B", "H", "D", "S", "W"]);
    let mask = Mask::of_site(call.input("randomness"), call.size("site"), call.scalar("p"));
    cpu::Attention {
        q: call.input("q"),
        k: call.input("k"),
        v: call.input("v"),
        sizes: Sizes { b, t: s, s, h, d, s_capacity: s },
        scale: call.scalar("scale"),
        pattern: Pattern::Window {
            window,
            key_state: call.input("key_state"),
            global_index: call.input("global_index"),
        },
        dropout: Some(mask).filter(|mask| !mask.is_off()),
    }
}

/// Who sees whom.
#[derive(Clone)]
pub struct Window<'a> {
    pub heads: usize,
    /// W, one-sided.
    pub window: usize,
    /// `[B, S]` i32.
    pub key_state: &'a Tensor,
    /// `[B, G]` i32.
    pub global_index: &'a Tensor,
    /// On the probabilities.
    pub dropout: Dropout,
}

/// o `[B, S, C]`, zeros in masked and global rows.
pub fn window_attention(tape: &Tape, q: &Tensor, k: &Tensor, v: &Tensor, pattern: Window) -> Result<Tensor> {
    let Window { heads, window, .. } = pattern;
    q.same_shape("window_attention", k)?;
    let [b, h, d, s, _] = dimensions("window_attention", [q, k, v], heads)?;
    let g = pattern.global_index.shape().last();
    if pattern.key_state.len() != b * s || pattern.global_index.len() != b * g {
        let want = format!("key_state [{b}, {s}] and global_index [{b}, G]");
        return Err(Error::shape("window_attention", want, pattern.key_state.shape()));
    }
    let inputs = vec![
        ("key_state", Some(pattern.key_state.clone())),
        ("global_index", Some(pattern.global_index.clone())),
    ];
    let sizes = vec![("B", b), ("H", h), ("D", d), ("S", s), ("W", window), ("G", g)];
    let partial = Some(b * h * s.div_ceil(SPAN) * g * 2 * d);
    let attention = Attention {
        heads,
        forward: Side { kernel: &FORWARD, inputs: inputs.clone(), sizes: sizes.clone(), partial: None },
        backward: Side { kernel: &BACKWARD, inputs, sizes, partial },
        dropout: Some(pattern.dropout),
        pairs: (b * h) as u64 * (band(s, window) + (g * s) as u64),
    };
    attention.run(tape, q, k, v)
}

/// Pairs with |i - j| <= w among s tokens.
fn band(s: usize, w: usize) -> u64 {
    let w = w.min(s.saturating_sub(1)) as u64;
    (2 * w + 1) * s as u64 - w * (w + 1)
}

#[cfg(test)]
mod tests {
    use super::band;

    #[test]
    fn the_band_is_counted_like_a_loop() {
        for (s, w) in [(1, 4), (5, 0), (5, 2), (7, 20), (1024, 512)] {
            let pairs = (0..s).flat_map(|i: usize| (0..s).map(move |j| i.abs_diff(j)));
            assert_eq!(band(s, w), pairs.filter(|&d| d <= w).count() as u64, "S {s}, W {w}");
        }
    }
}
