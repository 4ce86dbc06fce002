//! A few queries against a long cache, as in decoding: all heads of a key at once, so that k and v
//! are read once, in the order of memory. Long caches are split and merged (Dao et al. 2023).

use rayon::prelude::*;

use super::{Attention, Pattern, Sizes};
use crate::device::cpu::math::exp_nonpositive;
use crate::device::cpu::scratch::with_scratch;
use crate::device::cpu::simd::{fma, multiversion};

/// Most queries of a sample; from there on tiles of queries are faster.
const MOST_QUERIES: usize = 8;
/// Keys of one task; fixed, so that the merge does not depend on the threads.
const SPLIT: usize = 256;
/// Keys whose scores are held at a time.
const TILE: usize = 64;
/// Running sums of a dot product.
const LANES: usize = 16;

/// Whether this path takes the problem.
pub fn serves(attention: &Attention) -> bool {
    attention.sizes.t <= MOST_QUERIES
        && attention.dropout.is_none()
        && matches!(attention.pattern, Pattern::Dense { .. })
}

/// A task's share of the result: per query and head the maximum and the sum, then `o` `[T, H, D]`.
fn part_len(sizes: &Sizes) -> usize {
    sizes.t * sizes.h * (sizes.d + 2)
}

/// Forward for what [`serves`] accepts; lengths are checked.
pub fn forward(o: &mut [f32], lse: &mut [f32], attention: &Attention) {
    let sizes = attention.sizes;
    let splits = sizes.s.div_ceil(SPLIT).max(1);
    let len = part_len(&sizes);
    with_scratch(sizes.b * splits * len, |parts| {
        parts.par_chunks_mut(len).enumerate().for_each(|(index, part)| {
            let (b, first) = (index / splits, index % splits * SPLIT);
            let keys = (first, sizes.s.min(first + SPLIT));
            with_scratch(sizes.t * sizes.h * TILE, |scores| {
                attend(part, scores, attention, b, keys);
            });
        });
        let samples = o.chunks_mut(sizes.t * sizes.h * sizes.d);
        let lses = lse.chunks_mut(sizes.h * sizes.t);
        for ((o, lse), parts) in samples.zip(lses).zip(parts.chunks(splits * len)) {
            merge(o, lse, parts, sizes);
        }
    });
}

/// Whether query `i` sees key `j`.
#[inline(always)]
fn sees(pattern: &Pattern, rows: usize, b: usize, i: usize, j: usize) -> bool {
    match pattern {
        Pattern::Dense { causal, key_state } => {
            causal.is_none_or(|offset| j <= i + offset)
                && key_state.is_none_or(|states| states[b * rows + j] != 0)
        }
        _ => false,
    }
}

#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            lanes[lane] = fma::<FMA>(a[lane], b[lane], lanes[lane]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0] + tail
}

multiversion! {
    /// One split of the keys of a sample; `scores` holds `[T, H, TILE]`.
    fn attend(part: &mut [f32], scores: &mut [f32], attention: &Attention, b: usize, keys: (usize, usize)) {
        let Sizes { t, h, d, s_capacity, .. } = attention.sizes;
        let c = h * d;
        let (max, rest) = part.split_at_mut(t * h);
        let (sum, o) = rest.split_at_mut(t * h);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        o.fill(0.0);
        let q = &attention.q[b * t * c..(b + 1) * t * c];
        for first in (keys.0..keys.1).step_by(TILE) {
            let count = TILE.min(keys.1 - first);
            for j in 0..count {
                let at = attention.key_offset(b, 0, first + j);
                let row = &attention.k[at..at + c];
                for i in 0..t {
                    let seen = sees(&attention.pattern, s_capacity, b, i, first + j);
                    for head in 0..h {
                        let part = head * d..(head + 1) * d;
                        scores[(i * h + head) * TILE + j] = match seen {
                            true => attention.scale * dot::<FMA>(&q[i * c..][part.clone()], &row[part]),
                            false => f32::NEG_INFINITY,
                        };
                    }
                }
            }
            for ((line, (max, sum)), o) in
                scores.chunks_exact_mut(TILE).zip(max.iter_mut().zip(sum.iter_mut())).zip(o.chunks_exact_mut(d))
            {
                let line = &mut line[..count];
                let new = line.iter().copied().fold(*max, |a, b| if b > a { b } else { a });
                // Nothing seen yet: -inf - -inf would be NaN.
                let shift = if new == f32::NEG_INFINITY { 0.0 } else { new };
                let decay = exp_nonpositive::<FMA>(*max - shift);
                for p in line.iter_mut() {
                    *p = exp_nonpositive::<FMA>(*p - shift);
                }
                *sum = *sum * decay + line.iter().sum::<f32>();
                if new != *max {
                    o.iter_mut().for_each(|x| *x *= decay);
                }
                *max = new;
            }
            for j in 0..count {
                let at = attention.key_offset(b, 0, first + j);
                let row = &attention.v[at..at + c];
                for i in 0..t {
                    for head in 0..h {
                        let p = scores[(i * h + head) * TILE + j];
                        let o = &mut o[(i * h + head) * d..][..d];
                        for (o, v) in o.iter_mut().zip(&row[head * d..]) {
                            *o = fma::<FMA>(p, *v, *o);
                        }
                    }
                }
            }
        }
    }

    /// Joins the splits of a sample: `o` `[T, H, D]`, `lse` `[H, T]`.
    fn merge(o: &mut [f32], lse: &mut [f32], parts: &[f32], sizes: Sizes) {
        let Sizes { t, h, d, .. } = sizes;
        let rows = t * h;
        let parts = parts.chunks_exact(part_len(&sizes));
        for (row, o) in o.chunks_exact_mut(d).enumerate() {
            let max = parts.clone().map(|part| part[row]).fold(f32::NEG_INFINITY, f32::max);
            let shift = if max == f32::NEG_INFINITY { 0.0 } else { max };
            let (mut sum, i, head) = (0.0, row / h, row % h);
            o.fill(0.0);
            for part in parts.clone() {
                let decay = exp_nonpositive::<FMA>(part[row] - shift);
                sum = fma::<FMA>(part[rows + row], decay, sum);
                for (o, x) in o.iter_mut().zip(&part[2 * rows + row * d..]) {
                    *o = fma::<FMA>(*x, decay, *o);
                }
            }
            lse[head * t + i] = if sum == 0.0 { f32::NEG_INFINITY } else { max + sum.ln() };
            let scale = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            o.iter_mut().for_each(|x| *x *= scale);
        }
    }
}
