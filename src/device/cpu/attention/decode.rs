//! One query a row against a long cache, as in decoding: all heads of a key at once, so that k and v are
//! read once, in the order of memory. Rows over the same cache row, such as the beams of an input, read it
//! together. Long caches are split and merged (Dao et al. 2023).

use rayon::prelude::*;

use crate::device::cpu::math::exp_nonpositive;
use crate::device::cpu::narrow::Stored;
use crate::device::cpu::scratch::with_scratch;
use crate::device::cpu::simd::{fma, multiversion};
use half::bf16;

/// Most rows that read keys together.
const TOGETHER: usize = 8;
/// Keys of one task; fixed, so that the merge does not depend on the threads.
const SPLIT: usize = 256;
/// Keys whose scores are held at a time.
const TILE: usize = 64;
/// Running sums of a dot product.
const LANES: usize = 16;

/// Sizes of a decoding step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// N, queries.
    pub n: usize,
    pub h: usize,
    pub d: usize,
    /// Keys that count.
    pub s: usize,
    /// Keys that a row of the cache has room for.
    pub rows: usize,
    /// Columns of the index: 1, or as many as `s` at least.
    pub columns: usize,
}

/// The operands, k and v as they are stored.
#[derive(Clone, Copy)]
pub struct Decode<'a, E> {
    /// `[N, H, D]`.
    pub q: &'a [f32],
    /// `[R, rows, H, D]`.
    pub k: &'a [E],
    pub v: &'a [E],
    /// `[R, rows]`, zero hides a key; empty where all are visible.
    pub key_state: &'a [i32],
    /// `[N, columns]`: the cache row that key j of query n lies in, or all of its keys.
    pub index: &'a [i32],
    pub sizes: Sizes,
    pub scale: f32,
}

impl<E> Decode<'_, E> {
    /// Panics where a length contradicts the sizes or the index leaves the cache.
    fn check(&self) {
        let Sizes { n, h, d, s, rows, columns } = self.sizes;
        assert!(s <= rows, "attention: {s} keys in {rows} rows");
        assert_eq!(self.q.len(), n * h * d, "attention: q is not [N, H, D]");
        assert_eq!(self.k.len(), self.v.len(), "attention: k and v differ");
        assert!(columns == 1 || columns >= s, "attention: {columns} columns for {s} keys");
        assert_eq!(self.index.len(), n * columns, "attention: index is not [N, columns]");
        let samples = self.k.len() / (rows * h * d).max(1);
        let fits = self.key_state.is_empty() || self.key_state.len() == samples * rows;
        assert!(fits, "attention: key_state is not [R, rows]");
        let named = self.index.chunks(columns).flat_map(|row| &row[..s.min(columns)]);
        let inside = named.copied().all(|r| r >= 0 && (r as usize) < samples);
        assert!(inside, "attention: the index names a row that the cache of {samples} does not have");
    }

    /// The cache position of key `j` of query `n`.
    #[inline(always)]
    fn position(&self, n: usize, j: usize) -> usize {
        let Sizes { rows, columns, .. } = self.sizes;
        let column = if columns == 1 { 0 } else { j };
        self.index[n * columns + column] as usize * rows + j
    }

    /// Runs of queries with all their keys in common: (first, count).
    fn groups(&self) -> Vec<(usize, usize)> {
        let mut groups: Vec<(usize, usize)> = Vec::with_capacity(self.sizes.n);
        for n in 0..self.sizes.n {
            match groups.last_mut() {
                Some((first, count))
                    if self.sizes.columns == 1
                        && *count < TOGETHER
                        && self.index[*first] == self.index[n] =>
                {
                    *count += 1;
                }
                _ => groups.push((n, 1)),
            }
        }
        groups
    }
}

/// Queries `first .. first + count` over keys `from .. to`.
#[derive(Clone, Copy)]
pub struct Task {
    first: usize,
    count: usize,
    from: usize,
    to: usize,
}

/// A query's share of a task's result: per head the maximum and the sum, then `[H, D]`.
fn part_len(sizes: &Sizes) -> usize {
    sizes.h * (sizes.d + 2)
}

/// Writes `o` `[N, H, D]`; a query that sees no key gets zeros. Panics where a length is wrong.
pub fn decode<E: Walk>(o: &mut [f32], operands: &Decode<E>) {
    operands.check();
    let sizes = operands.sizes;
    assert_eq!(o.len(), operands.q.len(), "attention: o is not [N, H, D]");
    let splits = sizes.s.div_ceil(SPLIT).max(1);
    let len = part_len(&sizes);
    let groups = operands.groups();
    with_scratch(sizes.n * splits * len, |parts| {
        let mut tasks = Vec::with_capacity(groups.len() * splits);
        let mut rest = &mut *parts;
        for &(first, count) in &groups {
            for split in 0..splits {
                let (part, others) = rest.split_at_mut(count * len);
                rest = others;
                let (from, to) = (split * SPLIT, sizes.s.min((split + 1) * SPLIT));
                tasks.push((Task { first, count, from, to }, part));
            }
        }
        tasks.into_par_iter().for_each(|(task, part)| {
            with_scratch(task.count * sizes.h * TILE, |scores| E::attend(part, scores, operands, task));
        });
        let mut rest = &parts[..];
        for &(first, count) in &groups {
            let (of_group, others) = rest.split_at(splits * count * len);
            rest = others;
            for i in 0..count {
                let o = &mut o[(first + i) * sizes.h * sizes.d..][..sizes.h * sizes.d];
                merge(o, of_group, (i, count), sizes);
            }
        }
    });
}

/// A storage type of caches that the loop over keys is compiled for.
pub trait Walk: Stored {
    #[doc(hidden)]
    fn attend(part: &mut [f32], scores: &mut [f32], operands: &Decode<Self>, task: Task);
}

impl Walk for f32 {
    fn attend(part: &mut [f32], scores: &mut [f32], operands: &Decode<f32>, task: Task) {
        attend_f32(part, scores, operands, task);
    }
}

impl Walk for bf16 {
    fn attend(part: &mut [f32], scores: &mut [f32], operands: &Decode<bf16>, task: Task) {
        attend_bf16(part, scores, operands, task);
    }
}

#[inline(always)]
fn dot<E: Stored, const FMA: bool>(a: &[f32], b: &[E]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y.wide()).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            lanes[lane] = fma::<FMA>(a[lane], b[lane].wide(), lanes[lane]);
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

/// One task: its queries share their keys, or it has one query only. `scores` holds `[T, H, TILE]`.
#[inline(always)]
fn attend<E: Stored, const FMA: bool>(part: &mut [f32], scores: &mut [f32], x: &Decode<E>, task: Task) {
    let Sizes { h, d, .. } = x.sizes;
    let Task { first, count: t, from, to } = task;
    let c = h * d;
    let (max, rest) = part.split_at_mut(t * h);
    let (sum, o) = rest.split_at_mut(t * h);
    max.fill(f32::NEG_INFINITY);
    sum.fill(0.0);
    o.fill(0.0);
    let q = &x.q[first * c..(first + t) * c];
    for start in (from..to).step_by(TILE) {
        let count = TILE.min(to - start);
        for j in 0..count {
            let at = x.position(first, start + j);
            let seen = x.key_state.is_empty() || x.key_state[at] != 0;
            let row = &x.k[at * c..(at + 1) * c];
            for i in 0..t {
                for head in 0..h {
                    let part = head * d..(head + 1) * d;
                    scores[(i * h + head) * TILE + j] = match seen {
                        true => x.scale * dot::<E, FMA>(&q[i * c..][part.clone()], &row[part]),
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
            let at = x.position(first, start + j);
            // A hidden key may hold anything.
            if !x.key_state.is_empty() && x.key_state[at] == 0 {
                continue;
            }
            let row = &x.v[at * c..(at + 1) * c];
            for i in 0..t {
                for head in 0..h {
                    let p = scores[(i * h + head) * TILE + j];
                    let o = &mut o[(i * h + head) * d..][..d];
                    for (o, v) in o.iter_mut().zip(&row[head * d..]) {
                        *o = fma::<FMA>(p, v.wide(), *o);
                    }
                }
            }
        }
    }
}

multiversion! {
    fn attend_f32(part: &mut [f32], scores: &mut [f32], operands: &Decode<f32>, task: Task) {
        attend::<f32, FMA>(part, scores, operands, task);
    }

    fn attend_bf16(part: &mut [f32], scores: &mut [f32], operands: &Decode<bf16>, task: Task) {
        attend::<bf16, FMA>(part, scores, operands, task);
    }

    /// Joins the splits of query i of a group of t: `o` `[H, D]`.
    fn merge(o: &mut [f32], parts: &[f32], place: (usize, usize), sizes: Sizes) {
        let Sizes { h, d, .. } = sizes;
        let (i, t) = place;
        let parts = parts.chunks_exact(t * part_len(&sizes));
        for (head, o) in o.chunks_exact_mut(d).enumerate() {
            let row = i * h + head;
            let max = parts.clone().map(|part| part[row]).fold(f32::NEG_INFINITY, f32::max);
            let shift = if max == f32::NEG_INFINITY { 0.0 } else { max };
            let mut sum = 0.0;
            o.fill(0.0);
            for part in parts.clone() {
                let decay = exp_nonpositive::<FMA>(part[row] - shift);
                sum = fma::<FMA>(part[t * h + row], decay, sum);
                for (o, x) in o.iter_mut().zip(&part[2 * t * h + row * d..]) {
                    *o = fma::<FMA>(*x, decay, *o);
                }
            }
            let scale = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            o.iter_mut().for_each(|x| *x *= scale);
        }
    }
}
