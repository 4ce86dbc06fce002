//! BigBird's random block plan: which key blocks each query block attends to besides the window
//! and the global blocks (Zaheer et al. 2020; HF `BigBirdPegasusBlockSparseAttention`).
//!
//! The plan is a constant of (layer, head, S): the reference reseeds numpy's MT19937 with the
//! layer index on every forward. It is reproduced here draw for draw, because a checkpoint was
//! trained with exactly these blocks.

mod table;

pub use table::{BlockTable, block_table};

use crate::error::{Error, Result};
use rand_mt::Mt;
use serde::{Deserialize, Serialize};

/// The keys of `config.json` that decide the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanConfig {
    /// K, tokens per block.
    pub block_size: usize,
    /// R, random key blocks per query block.
    pub num_random_blocks: usize,
    /// `max_position_embeddings`: the length the original plan is drawn for.
    pub max_position: usize,
}

/// Where the random blocks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RandomBlocks {
    /// All block 0: transformers 5 outside of training.
    EvalZero,
    /// The drawn plan: training, and transformers 4 in every mode.
    Drawn,
}

/// Sequence lengths drawn with the original rule, for `max_position` and cut (HF hard-codes them).
const ORIGINAL_LENGTHS: [usize; 3] = [1024, 3072, 4096];
/// The original rule draws from the first 1024 tokens only.
const ORIGINAL_REACH: usize = 1024;

/// Whether the encoder attends fully: S <= (5 + 2R)K, with S before padding to whole blocks.
pub fn uses_full_attention(seq_len: usize, cfg: &PlanConfig) -> bool {
    seq_len <= (5 + 2 * cfg.num_random_blocks) * cfg.block_size
}

/// The random key blocks `[H, n-2, R]` of query blocks 1..=n-2, where n = `seq_len` / K.
///
/// `seq_len` is a whole number of blocks. Fails where the reference has too few blocks to draw from.
/// With blocks of 512 or more the reference may draw blocks beyond the end; [`block_table`] refuses those.
pub fn random_blocks(
    layer: u32,
    heads: usize,
    seq_len: usize,
    cfg: &PlanConfig,
    source: RandomBlocks,
) -> Result<Vec<i32>> {
    let blocks = block_count(seq_len, cfg)?;
    let original = ORIGINAL_LENGTHS.contains(&seq_len);
    if original && seq_len > cfg.max_position {
        return Err(Error::usage(format!(
            "{seq_len} tokens exceed max_position_embeddings {}; shorten the input",
            cfg.max_position
        )));
    }
    let per_head = (blocks - 2) * cfg.num_random_blocks;
    if source == RandomBlocks::EvalZero {
        return Ok(vec![0; heads * per_head]);
    }
    let mut rng = Mt::new(layer);
    if original {
        draw_original(&mut rng, heads, seq_len, cfg)
    } else {
        draw_segmented(&mut rng, heads, seq_len, cfg)
    }
}

/// n = S / K, refusing what the reference cannot run: no random blocks, part of a block, no middle.
fn block_count(seq_len: usize, cfg: &PlanConfig) -> Result<usize> {
    let k = cfg.block_size;
    if k == 0 || cfg.num_random_blocks == 0 {
        return Err(Error::usage(
            "block-sparse attention needs block_size and num_random_blocks of at least 1; \
             set them to the checkpoint's (64 and 3)",
        ));
    }
    if !seq_len.is_multiple_of(k) {
        return Err(Error::usage(format!(
            "{seq_len} tokens are not a whole number of blocks of {k}; pad the input to a multiple of {k}"
        )));
    }
    match seq_len / k {
        n if n < 4 => Err(Error::usage(format!(
            "{seq_len} tokens make {n} blocks of {k}, and block-sparse attention needs 4; \
             use full attention for inputs this short"
        ))),
        n => Ok(n),
    }
}

/// The original rule: the whole `max_position` plan, head after head in one stream, each cut to n-2 rows.
fn draw_original(rng: &mut Mt, heads: usize, seq_len: usize, cfg: &PlanConfig) -> Result<Vec<i32>> {
    let k = cfg.block_size;
    let all = cfg.max_position / k;
    let kept = seq_len / k - 2;
    let middle: Vec<i32> = (1..all as i32 - 1).collect();
    let last = if ORIGINAL_REACH > 2 * k { ORIGINAL_REACH / k - 1 } else { all - 1 };
    let slice = |from: usize, to: usize| {
        let to = to.min(middle.len());
        &middle[from.min(to)..to]
    };
    let mut plan = Vec::with_capacity(heads * kept * cfg.num_random_blocks);
    for _ in 0..heads {
        for b in 1..all - 1 {
            let (below, above) = match b {
                1 => (slice(2, last), slice(0, 0)),
                2 => (slice(3, last), slice(0, 0)),
                // The two rows before the last block may draw their own window: the reference never cut it out.
                _ if b + 3 >= all => (slice(0, last), slice(0, 0)),
                _ => (slice(0, (b - 2).min(last)), slice(b + 1, last)),
            };
            let candidates = permuted(rng, [below, above].concat());
            // Rows beyond the cut are drawn all the same: the next head continues the stream.
            let row =
                first(&candidates, cfg.num_random_blocks).ok_or_else(|| too_few_blocks(seq_len, cfg, b))?;
            if b <= kept {
                plan.extend(row);
            }
        }
    }
    Ok(plan)
}

/// A run of key blocks `[from, to)` that holds the random columns `[column, column + count)`.
struct Segment {
    from: usize,
    to: usize,
    column: usize,
    count: usize,
}

/// The general rule: rows outermost and heads inside, drawn from one or two segments of the sequence.
fn draw_segmented(rng: &mut Mt, heads: usize, seq_len: usize, cfg: &PlanConfig) -> Result<Vec<i32>> {
    let n = seq_len / cfg.block_size;
    let r = cfg.num_random_blocks;
    let segment = |from, to, column, count| Segment { from, to, column, count };
    let segments = if 2 * r + 5 < n {
        vec![segment(0, 2 * r + 5, 0, r), segment(2 * r + 5, n, r, 0)]
    } else if r + 5 < n {
        vec![segment(0, r + 5, 0, r / 2), segment(r + 5, n, r / 2, r - r / 2)]
    } else {
        vec![segment(0, n, 0, r)]
    };
    let mut plan = vec![0; heads * (n - 2) * r];
    let mut draw = |segment: &Segment, rows: std::ops::Range<usize>| -> Result<()> {
        if segment.count == 0 {
            return Ok(());
        }
        for b in rows {
            for head in 0..heads {
                let candidates = permuted(rng, (segment.from as i32..segment.to as i32).collect());
                let legal = legal_blocks(&candidates, b, segment.to);
                let row = first(&legal, segment.count).ok_or_else(|| too_few_blocks(seq_len, cfg, b))?;
                // The row of the last block is drawn and dropped.
                if b + 1 < n {
                    let at = (head * (n - 2) + b - 1) * r + segment.column;
                    plan[at..at + segment.count].copy_from_slice(&row);
                }
            }
        }
        Ok(())
    };
    for (index, current) in segments.iter().enumerate() {
        if index > 0 {
            draw(current, 1..current.from)?;
        }
        for earlier in &segments[..index] {
            draw(earlier, current.from..current.to)?;
        }
        draw(current, current.from.max(1)..current.to)?;
    }
    Ok(plan)
}

/// The candidates query block `b` may draw: neither its window nor the segment's global blocks.
fn legal_blocks(candidates: &[i32], b: usize, end: usize) -> Vec<i32> {
    let (b, end) = (b as i32, end as i32);
    let illegal = |c: i32| {
        (c - b).abs() <= 1 || c == 0 || c == end - 1 || (b == 1 && c == end - 2) || (b == end - 2 && c == 1)
    };
    candidates.iter().copied().filter(|&c| !illegal(c)).collect()
}

/// The first `count` candidates. A single one fills the row, as numpy's broadcasting does.
fn first(candidates: &[i32], count: usize) -> Option<Vec<i32>> {
    match candidates {
        [only] => Some(vec![*only; count]),
        _ => candidates.get(..count).map(<[i32]>::to_vec),
    }
}

fn too_few_blocks(seq_len: usize, cfg: &PlanConfig, b: usize) -> Error {
    Error::usage(format!(
        "BigBird's plan for {seq_len} tokens in blocks of {} has too few candidates for the {} random \
         blocks of query block {b}; lower num_random_blocks or block_size, or use full attention",
        cfg.block_size, cfg.num_random_blocks
    ))
}

/// numpy's legacy `permutation`: Fisher-Yates from the end, bounded draws by masked rejection.
fn permuted(rng: &mut Mt, mut items: Vec<i32>) -> Vec<i32> {
    for i in (1..items.len()).rev() {
        let mask = u32::MAX >> (i as u32).leading_zeros();
        let j = loop {
            let draw = (rng.next_u32() & mask) as usize;
            if draw <= i {
                break draw;
            }
        };
        items.swap(i, j);
    }
    items
}

#[cfg(test)]
mod tests;
