//! Tiles of the attention kernels: a choice by head size and storage type, as kernels/attention.cuh makes it.
//!
//! A block of 4 warps keeps a tile of rows in shared memory and walks over columns in two stages.
//! * Forward of long inputs: a warp owns 32 rows, so that a fragment of k or v that it loads is used
//!   twice: tensor cores would otherwise wait for shared memory. With fewer rows than fill the
//!   processors that way it owns 16, as it does above a head size of 64 and with dropout, where the sums
//!   of 32 rows leave too few registers.
//! * Backward: two tiles of scores and, for keys, two of sums are alive at a time: 16 rows a warp.
//! * Columns: as many as keep a block under 99 KiB of shared memory, which every GPU since 8.0 has.

use crate::device::{Call, Pass};
use crate::shape::DType;

/// Threads of a block.
pub const THREADS: u32 = 128;
/// Multiprocessors of the largest GPU that is planned for (H100, H200). The choices depend on sizes
/// only: the same bits come out on every device.
const PROCESSORS: usize = 132;
/// The head sizes that the kernels are compiled for; others are padded with zeros.
const HEADS: [usize; 4] = [16, 32, 64, 128];

/// One pass' entry for each of those, or for the smallest of them.
pub type Entries = &'static [&'static str];

/// The entries of a pass by head size: `window_attention_fwd_d16` and so on.
macro_rules! entries {
    ($pass:literal, $($size:literal)*) => { &[$(concat!($pass, "_d", $size)),*] };
}
pub(super) use entries;

/// Index of the smallest of `HEADS` that holds `d`.
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
    /// Queries stay, keys and values stream; `heads` of all samples with t queries each, and dropout of rate `p`.
    pub fn forward(real: DType, d: usize, heads: usize, t: usize, p: f32) -> Self {
        let wide = d <= 64 && p == 0.0 && heads * t.div_ceil(128) >= 2 * PROCESSORS;
        let rows = if wide { 128 } else { 64 };
        let columns = if real == DType::BF16 { 64 } else { 32 };
        Tile { rows, columns, resident: 1 }
    }

    /// The same in blocks of a table: a tile of 128 rows would be half empty in the usual ones of 64.
    pub fn forward_in_blocks(real: DType, d: usize) -> Self {
        Tile::forward(real, d, 0, 0, 0.0)
    }

    /// Two of q, do, k and v stay, the other two stream.
    pub fn backward(real: DType, d: usize) -> Self {
        let narrower = if d <= 64 { 1 } else { 2 };
        let columns = if real == DType::BF16 { 64 } else { 32 } / narrower;
        Tile { rows: 64, columns, resident: 2 }
    }

    /// Which of two kernels has this tile: the second one for 128 rows.
    pub fn choose(&self, narrow: Entries, wide: Entries) -> Entries {
        if self.rows == 128 { wide } else { narrow }
    }

    /// A launch of `blocks` blocks, each with this tile.
    pub fn pass(&self, entries: Entries, call: &Call, d: usize, blocks: usize) -> Option<Pass> {
        let pass = pass(entries[head(d)], blocks * THREADS as usize)?;
        Some(pass.shared(self.shared(call.real(), d)))
    }

    /// Bytes of shared memory: the rows that stay, and two stages of columns of two tensors.
    fn shared(&self, real: DType, d: usize) -> usize {
        // 16 bytes of padding end a row.
        let row = HEADS[head(d)] * real.size() + 16;
        (self.resident * self.rows + 4 * self.columns) * row
    }
}

/// A launch of one block for each query: its groups of lanes leave what they found in shared memory.
pub fn query_pass(entries: Entries, call: &Call, d: usize, queries: usize) -> Option<Pass> {
    let size = HEADS[head(d)];
    let groups = THREADS as usize * 16 / (size * call.real().size());
    Some(pass(entries[head(d)], queries * THREADS as usize)?.shared(groups * (size + 2) * 4))
}

/// Among how many blocks the `keys` of a tile are split, so that `blocks` tiles become `wanted`
/// blocks of at least `least` keys; one where half of `wanted` are there already.
pub fn splits(blocks: usize, wanted: usize, keys: usize, least: usize) -> usize {
    match 2 * blocks >= wanted {
        true => 1,
        false => wanted.div_ceil(blocks.max(1)).min(keys / least).max(1),
    }
}

/// Splits for `blocks` tiles of queries, two of which a processor has room for.
pub fn tile_splits(blocks: usize, keys: usize) -> usize {
    splits(blocks, 2 * PROCESSORS, keys, 512)
}

/// Splits for `queries` blocks that only read: eight to a processor keep the memory busy.
pub fn query_splits(queries: usize, keys: usize) -> usize {
    splits(queries, 8 * PROCESSORS, keys, 256)
}

/// A launch of `threads` threads; none for none.
pub fn pass(entry: &'static str, threads: usize) -> Option<Pass> {
    (threads > 0).then(|| Pass::new(entry, threads.div_ceil(THREADS as usize), THREADS))
}

/// Whether a backward call is to write this gradient.
pub fn is_wanted(call: &Call, gradient: &str) -> bool {
    call.output(gradient).len > 0
}

/// The first pass of a backward call: eight threads sum one row of do and o.
pub fn delta_pass(entry: &'static str, call: &Call) -> Option<Pass> {
    pass(entry, call.input("d_o").len / call.size("D").max(1) * 8)
}

/// The passes of a backward call: delta, then dq, then dk and dv, as far as they are wanted.
pub fn backward_passes(
    first: &'static str,
    [queries, keys]: [Entries; 2],
    call: &Call,
    tile: Tile,
    blocks: [usize; 2],
) -> Vec<Pass> {
    let d = call.size("D");
    let delta = delta_pass(first, call);
    let or_none = |wanted: bool, blocks: usize| if wanted { blocks } else { 0 };
    let queries = tile.pass(queries, call, d, or_none(is_wanted(call, "dq"), blocks[0]));
    let keys_wanted = is_wanted(call, "dk") || is_wanted(call, "dv");
    let keys = tile.pass(keys, call, d, or_none(keys_wanted, blocks[1]));
    [delta, queries, keys].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_fits_the_shared_memory_of_every_gpu() {
        for real in [DType::F32, DType::BF16] {
            for d in HEADS {
                let forward =
                    [(0, 0.0), (1 << 20, 0.0), (1 << 20, 0.1)].map(|(t, p)| Tile::forward(real, d, 12, t, p));
                assert_eq!(forward.map(|tile| tile.rows), [64, if d <= 64 { 128 } else { 64 }, 64]);
                for tile in forward.into_iter().chain([Tile::backward(real, d)]) {
                    assert!(tile.shared(real, d) <= 99 << 10, "{tile:?} of {d}, {real:?}");
                }
            }
        }
    }

    #[test]
    fn keys_are_split_where_tiles_are_few() {
        // LED-base decoding, one sample and sixteen; cross-attention of 128 and of 1024 targets.
        assert_eq!(query_splits(12, 16384), 64);
        assert_eq!(query_splits(12 * 16, 16384), 6);
        assert_eq!(tile_splits(2 * 12, 16384), 11);
        assert_eq!(tile_splits(16 * 12, 16384), 1);
        assert_eq!(tile_splits(1, 100), 1);
        assert_eq!(tile_splits(0, 0), 1);
    }
}
