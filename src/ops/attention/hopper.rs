//! Tiles of the attention kernels for compute capability 9.0: a choice by head size, as kernels/attention_hopper.cuh
//! makes it.
//!
//! A block of one warpgroup that loads and one to three that compute, 64 rows each; columns go through a ring of stages of
//! 64. For a window it works on one tile of rows after the other, for a table of blocks and all keys on one. Two blocks
//! of one that computes share a processor; the others have one to themselves. With a table each warpgroup that computes
//! has a list of its own, and neighbours' lists share blocks. Tiles of columns come by maps of their tensors, where these
//! can have some.

use super::tile;
use crate::device::{Call, Engine, Maps, Pass, TensorMap};
use crate::shape::DType;

/// Blocks that fill the processors of an H100 or H200, one to each. The same on every device, and no result depends on
/// it.
const BLOCKS: usize = 132;
const STAGES: usize = 4;
/// Columns of a tile.
const COLUMNS: usize = 64;
/// The head sizes that the kernels are compiled for; others are padded with zeros.
const HEADS: [usize; 2] = [64, 128];

/// Whether these kernels serve a call: smaller heads leave most of a product empty.
pub fn serves(call: &Call) -> bool {
    let d = call.size("D");
    call.engine == Some(Engine::Hopper) && call.real() == DType::BF16 && (33..=HEADS[1]).contains(&d)
}

/// Whether they serve the blocks of a table, forward and backward: smaller ones leave most of a tile empty.
pub fn serves_blocks(call: &Call) -> bool {
    serves(call) && call.size("K").is_multiple_of(COLUMNS)
}

/// Blocks for tiles that each of them takes one after the other.
pub fn one_after_the_other(tiles: usize) -> usize {
    tiles.min(BLOCKS)
}

/// Maps of two inputs `[B, rows, H, D]`, of which the first `end` positions may be read: a box is 64 columns of one head's
/// tile, and beyond the end of a sample there are zeros, not the next one.
pub fn maps(call: &Call, inputs: [&str; 2], rows: usize, end: usize) -> Maps {
    let [b, h, d, rows, end] =
        [call.size("B"), call.size("H"), call.size("D"), rows, end].map(|size| size as u64);
    let position = h * d * DType::BF16.size() as u64;
    let strides = [position / h.max(1), position, rows * position];
    let (sizes, sides) = ([d, h, end, b], [64, 1, COLUMNS as u32, 1]);
    Maps::of(inputs.map(|name| TensorMap::of(call.input(name), sizes, strides, sides)))
}

/// One pass' rows, by head size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    head: usize,
    /// Warpgroups that compute.
    groups: usize,
    /// Tensors whose rows stay in shared memory.
    resident: usize,
}

impl Tile {
    /// As many rows as leave registers for their sums.
    pub fn forward(d: usize) -> Self {
        match d <= HEADS[0] {
            true => Tile { head: HEADS[0], groups: 3, resident: 0 },
            false => Tile { head: HEADS[1], groups: 2, resident: 0 },
        }
    }

    /// Large heads leave no registers for rows that stay.
    pub fn backward(d: usize) -> Self {
        match d <= HEADS[0] {
            true => Tile { head: HEADS[0], groups: 2, resident: 0 },
            false => Tile { head: HEADS[1], groups: 2, resident: 2 },
        }
    }

    /// Over all keys: tiles are few where targets are.
    pub fn dense(d: usize) -> Self {
        if d <= HEADS[0] { Tile::single() } else { Tile::forward(d) }
    }

    pub fn dense_backward(d: usize) -> Self {
        if d <= HEADS[0] { Tile::single() } else { Tile::backward(d) }
    }

    /// One warpgroup that computes.
    pub fn single() -> Self {
        Tile { head: HEADS[0], groups: 1, resident: 0 }
    }

    /// Of the lists of a table's blocks: each warpgroup that computes has a list, and what two list is loaded once.
    pub fn lists(d: usize) -> Self {
        Tile { groups: 2, ..Tile::forward(d) }
    }

    /// The same in the backward.
    pub fn lists_backward(d: usize) -> Self {
        Tile { groups: 2, ..Tile::backward(d) }
    }

    /// Blocks for `tiles` tiles of one warpgroup's rows.
    pub fn blocks_of(&self, tiles: usize) -> usize {
        tiles.div_ceil(self.groups)
    }

    pub fn rows(&self) -> usize {
        64 * self.groups
    }

    /// A launch over `tiles` tiles of rows, by the entry for this head size.
    pub fn pass(&self, entries: [&'static str; 2], tiles: usize) -> Pass {
        self.each(self.of_head(entries), one_after_the_other(tiles))
    }

    /// The one for this head size.
    pub fn of_head<T: Copy>(&self, entries: [T; 2]) -> T {
        entries[usize::from(self.head > HEADS[0])]
    }

    /// A launch of so many blocks.
    pub fn each(&self, entry: &'static str, blocks: usize) -> Pass {
        Pass::new(entry, blocks, 128 * (self.groups as u32 + 1)).shared(self.shared())
    }

    /// The passes of a backward call, as [`tile::backward_passes`]. Rows of queries meet columns of keys, and the other way
    /// round.
    pub fn backward_passes(
        &self,
        first: &'static str,
        [queries, keys]: [&'static str; 2],
        call: &Call,
        blocks: [usize; 2],
        [of_keys, of_queries]: [Maps; 2],
    ) -> Vec<Pass> {
        let delta = tile::delta_pass(first, call);
        let queries = tile::is_wanted(call, "dq").then(|| self.each(queries, blocks[0]).maps(of_keys));
        let keys_wanted = tile::is_wanted(call, "dk") || tile::is_wanted(call, "dv");
        let keys = keys_wanted.then(|| self.each(keys, blocks[1]).maps(of_queries));
        [delta, queries, keys].into_iter().flatten().collect()
    }

    /// Bytes of shared memory: tiles of two tensors in each stage, two numbers of each column, which columns they are and
    /// two barriers, and what it takes to begin at a multiple of 1024. Rows that stay begin at one, too.
    fn shared(&self) -> usize {
        let (tiles, numbers) = (2 * COLUMNS * self.head * 2, 2 * COLUMNS * 4);
        let ring = STAGES * (tiles + numbers + 64 + 16);
        let resident = self.resident * self.rows() * self.head * 2;
        1024 + if resident > 0 { ring.next_multiple_of(1024) + resident } else { ring }
    }
}

#[cfg(test)]
mod tests;
