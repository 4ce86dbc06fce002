//! The plan as a table of key blocks per query block, in the form a kernel walks.

use super::{PlanConfig, RandomBlocks, block_count, random_blocks};
use crate::error::{Error, Result};

/// Blocks per block in compressed sparse rows, one table per head, all heads in the same arrays.
///
/// Row `b` of head `h` is the slots `row_ptr[h * (n + 1) + b] .. row_ptr[h * (n + 1) + b + 1]` of
/// `col` and `count`. Columns ascend. The blocks of a row are a multiset: a block drawn twice enters
/// the softmax twice, so its count is 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockTable {
    pub heads: usize,
    /// n, blocks in the sequence.
    pub blocks: usize,
    /// `[H, n + 1]`, offsets into `col` and `count`.
    pub row_ptr: Vec<i32>,
    pub col: Vec<i32>,
    /// How often the block of the same slot of `col` occurs, at least 1.
    pub count: Vec<i32>,
}

/// The key blocks of every query block: global first and last block, window of 3, random ones.
///
/// The first and the last query block see every key block once. Fails where [`random_blocks`] does
/// and where it draws blocks beyond the end.
pub fn block_table(
    layer: u32,
    heads: usize,
    seq_len: usize,
    cfg: &PlanConfig,
    source: RandomBlocks,
) -> Result<BlockTable> {
    let n = block_count(seq_len, cfg)?;
    let r = cfg.num_random_blocks;
    let random = random_blocks(layer, heads, seq_len, cfg, source)?;
    if let Some(block) = random.iter().find(|&&block| block as usize >= n) {
        return Err(Error::usage(format!(
            "BigBird's plan for {seq_len} tokens draws block {block}, but there are {n} blocks of {}; \
             lower block_size or use full attention",
            cfg.block_size
        )));
    }
    let mut table = BlockTable::empty(heads, n);
    for head in 0..heads {
        table.row_ptr.push(table.col.len() as i32);
        for b in 0..n {
            let mut counts = vec![0; n];
            if b == 0 || b == n - 1 {
                counts.fill(1);
            } else {
                // Next to an end, the window and the global block are the same block, counted once.
                for key in [0, n - 1, b - 1, b, b + 1] {
                    counts[key] = 1;
                }
                let row = (head * (n - 2) + b - 1) * r;
                for &key in &random[row..row + r] {
                    counts[key as usize] += 1;
                }
            }
            table.push_row(&counts);
        }
    }
    Ok(table)
}

impl BlockTable {
    fn empty(heads: usize, blocks: usize) -> Self {
        BlockTable {
            heads,
            blocks,
            row_ptr: Vec::with_capacity(heads * (blocks + 1)),
            col: Vec::new(),
            count: Vec::new(),
        }
    }

    /// Closes one row from the multiplicity of each column.
    fn push_row(&mut self, counts: &[i32]) {
        for (col, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.col.push(col as i32);
            self.count.push(count);
        }
        self.row_ptr.push(self.col.len() as i32);
    }

    /// The (block, count) pairs of row `b` of `head`, blocks ascending.
    pub fn row(&self, head: usize, b: usize) -> impl Iterator<Item = (i32, i32)> + '_ {
        let at = head * (self.blocks + 1) + b;
        let slots = self.row_ptr[at] as usize..self.row_ptr[at + 1] as usize;
        self.col[slots.clone()].iter().copied().zip(self.count[slots].iter().copied())
    }

    /// Key block to query blocks, from query block to key blocks (and back): what the backward pass walks.
    pub fn inverse(&self) -> BlockTable {
        let n = self.blocks;
        let mut inverse = BlockTable::empty(self.heads, n);
        for head in 0..self.heads {
            let mut counts = vec![0; n * n];
            for b in 0..n {
                for (col, count) in self.row(head, b) {
                    counts[col as usize * n + b] = count;
                }
            }
            inverse.row_ptr.push(inverse.col.len() as i32);
            counts.chunks(n).for_each(|row| inverse.push_row(row));
        }
        inverse
    }
}
