//! Attention without a score matrix: tiles of 64 by 64, online softmax, scores recomputed backward.
//!
//! q, o `[B, T, H, D]`, k, v `[B, S, H, D]`, lse `[B, H, T]`. One engine serves every [`Pattern`]; it
//! visits only the tiles a pattern touches. Tasks share out queries or heads and never a sum, so
//! the bits do not depend on the number of threads. (Milakov and Gimelshein 2018, Dao et al. 2022.)

mod backward;
pub mod decode;
mod form;
mod forward;
mod keys;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod way;

pub use backward::{Gradients, attention_backward};
pub use forward::attention_forward;

use super::philox::Mask;

/// Functions for many queries and for few, whose instructions were detected.
pub struct Way<E> {
    forward: forward::Run<E>,
    forward_narrow: forward::Run<E>,
    backward: backward::Run<E>,
    backward_narrow: backward::Run<E>,
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug)]
pub enum Pattern<'a> {
    /// All of them.
    Dense {
        /// Query `i` sees keys `0 ..= i + offset`; with a cache of `past` keys the offset is `past`.
        causal: Option<usize>,
        /// `[B, S]` with a column for every row of k, zero hides a key.
        key_state: Option<&'a [i32]>,
    },
    /// Keys at most `window` away and all global ones, each once (Longformer's and LED's encoder).
    ///
    /// Queries that are hidden or global themselves get zeros.
    Window {
        window: usize,
        /// `[B, S]`: 0 hidden, 1 local, 2 global.
        key_state: &'a [i32],
        /// `[B, G]`: positions of the global keys in ascending order, then -1.
        global_index: &'a [i32],
    },
    /// Whole blocks of keys from a table (BigBird); a hidden query gets zeros.
    BlockSparse {
        /// Positions in a block; S is a multiple.
        block: usize,
        /// `[H, S / block + 1]`: where the list of a query block starts in `col` and `count`.
        row_ptr: &'a [i32],
        /// Key blocks.
        col: &'a [i32],
        /// How many times the key block enters the softmax.
        count: &'a [i32],
        /// `[B, S]`, zero hides a position.
        key_state: &'a [i32],
    },
}

/// Sizes, by the letters of the shape legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub b: usize,
    pub t: usize,
    /// Keys in use.
    pub s: usize,
    pub h: usize,
    pub d: usize,
    /// Rows that k and v hold for a sample; more than `s` in a cache that is not full.
    pub s_capacity: usize,
}

/// The operands that forward and backward share.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a, E = f32> {
    pub q: &'a [E],
    pub k: &'a [E],
    pub v: &'a [E],
    pub sizes: Sizes,
    /// Multiplies the scores.
    pub scale: f32,
    pub pattern: Pattern<'a>,
    /// Dropout of the probabilities; element `((b H + h) T + i) S + j` of the mask.
    pub dropout: Option<Mask>,
}

/// Largest head size.
pub const MAX_HEAD: usize = 128;

impl<E> Attention<'_, E> {
    /// Panics unless every operand has the length that the sizes say.
    fn check(&self) {
        let Sizes { b, t, s, h, d, s_capacity } = self.sizes;
        assert!(d <= MAX_HEAD, "attention: head size {d} is above {MAX_HEAD}");
        assert!(s <= s_capacity, "attention: {s} keys in {s_capacity} rows");
        assert_eq!(self.q.len(), b * t * h * d, "attention: q is not [B, T, H, D]");
        assert_eq!(self.k.len(), b * s_capacity * h * d, "attention: k is not [B, S, H, D]");
        assert_eq!(self.v.len(), self.k.len(), "attention: v is not [B, S, H, D]");
        self.pattern.check(&self.sizes);
    }

    /// Head `h` of query `i` of sample `b`, as an offset into q or o.
    fn query_offset(&self, b: usize, h: usize, i: usize) -> usize {
        ((b * self.sizes.t + i) * self.sizes.h + h) * self.sizes.d
    }

    /// Head `h` of key `j` of sample `b`, as an offset into k or v.
    fn key_offset(&self, b: usize, h: usize, j: usize) -> usize {
        ((b * self.sizes.s_capacity + j) * self.sizes.h + h) * self.sizes.d
    }

    /// Floats from one row of a head to the next.
    fn row_stride(&self) -> usize {
        self.sizes.h * self.sizes.d
    }

    /// The queries of one tile: a whole number of tiles makes a block of a block-sparse table.
    fn query_step(&self) -> usize {
        match self.pattern {
            Pattern::BlockSparse { block, .. } if block < tile::SIDE => block,
            Pattern::BlockSparse { block, .. } if block % tile::SIDE != 0 => largest_divisor(block),
            _ => tile::SIDE,
        }
    }
}

/// The largest divisor of `block` that fits a tile.
fn largest_divisor(block: usize) -> usize {
    (1..=tile::SIDE).rev().find(|step| block.is_multiple_of(*step)).unwrap_or(1)
}
