//! Tiles of the attention kernels: a choice by head size and storage type, as kernels/attention.cuh makes it.
//!
//! A block of 4 warps keeps a tile of rows in shared memory and walks over columns in two stages.
//! * Forward: a warp owns 32 rows, so that a fragment of k or v that it loads is used twice: tensor
//!   cores would otherwise wait for shared memory. Above a head size of 64 the sums of 32 rows leave
//!   too few registers, and it owns 16.
//! * Backward: two tiles of scores and, for keys, two of sums are alive at a time: 16 rows a warp.
//! * Columns: as many as keep a block under 99 KiB of shared memory, which every GPU since 8.0 has.

use crate::device::{Call, Pass};
use crate::shape::DType;

/// Threads of a block.
pub const THREADS: u32 = 128;
/// The head sizes that the kernels are compiled for; others are padded with zeros.
const HEADS: [usize; 4] = [16, 32, 64, 128];

/// One pass' entry for each of those.
pub type Entries = [&'static str; 4];

/// Index of the smallest of [`HEADS`] that holds `d`.
pub fn head(d: usize) -> usize {
    HEADS.iter().position(|&size| d <= size).unwrap_or(HEADS.len() - 1)
}

/// One pass' rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    pub rows: usize,
    pub columns: usize,
    /// Tensors whose rows stay.
    resident: usize,
}

impl Tile {
    /// Queries stay, keys and values stream.
    pub fn forward(real: DType, d: usize) -> Self {
        let rows = if HEADS[head(d)] <= 64 { 128 } else { 64 };
        let columns = if real == DType::BF16 { 64 } else { 32 };
        Tile { rows, columns, resident: 1 }
    }

    /// The same in blocks of a table: a tile of 128 rows would be half empty in the usual ones of 64.
    pub fn forward_in_blocks(real: DType, d: usize) -> Self {
        Tile { rows: 64, ..Tile::forward(real, d) }
    }

    /// Two of q, do, k and v stay, the other two stream.
    pub fn backward(real: DType, d: usize) -> Self {
        let narrower = if HEADS[head(d)] <= 64 { 1 } else { 2 };
        let columns = if real == DType::BF16 { 64 } else { 32 } / narrower;
        Tile { rows: 64, columns, resident: 2 }
    }

    /// A launch of `blocks` blocks, each with this tile.
    pub fn pass(&self, entries: Entries, call: &Call, d: usize, blocks: usize) -> Pass {
        Pass::new(entries[head(d)], blocks, THREADS).shared(self.shared(call.real(), d))
    }

    /// Bytes of shared memory: the rows that stay, and two stages of columns of two tensors.
    fn shared(&self, real: DType, d: usize) -> usize {
        // 16 bytes of padding end a row.
        let row = HEADS[head(d)] * real.size() + 16;
        (self.resident * self.rows + 4 * self.columns) * row
    }
}

/// The passes that have something to do.
pub fn passes<const N: usize>(all: [Pass; N]) -> Vec<Pass> {
    all.into_iter().filter(|pass| pass.grid.iter().all(|&blocks| blocks > 0)).collect()
}

/// The passes of a backward call: delta, then dq, then dk and dv, as far as they are wanted.
pub fn backward_passes(
    first: &'static str,
    [queries, keys]: [Entries; 2],
    call: &Call,
    tile: Tile,
    blocks: [usize; 2],
) -> Vec<Pass> {
    let d = call.size(2);
    // Eight threads sum one row of do and o.
    let delta = Pass::new(first, (call.inputs[0].len / d.max(1)).div_ceil(THREADS as usize / 8), THREADS);
    let wanted = |outputs: std::ops::Range<usize>| call.outputs[outputs].iter().any(|out| out.len > 0);
    let or_none = |wanted: bool, blocks: usize| if wanted { blocks } else { 0 };
    passes([
        delta,
        tile.pass(queries, call, d, or_none(wanted(0..1), blocks[0])),
        tile.pass(keys, call, d, or_none(wanted(1..3), blocks[1])),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_fits_the_shared_memory_of_every_gpu() {
        for real in [DType::F32, DType::BF16] {
            for d in HEADS {
                for tile in [Tile::forward(real, d), Tile::backward(real, d)] {
                    assert!(tile.shared(real, d) <= 99 << 10, "{tile:?} of {d}, {real:?}");
                }
            }
        }
    }
}
