//! One query a row against a long cache, as in decoding: all heads of a key at once, so that k and v are
//! read once, in the order of memory. Rows over the same cache row, such as the beams of an input, read it
//! together. Long caches are split and merged (Dao et al. 2023).

mod walk;

use rayon::prelude::*;

use crate::device::cpu::math::exp_nonpositive;
use crate::device::cpu::microkernel::Operand;
use crate::device::cpu::scratch::with_scratch;
use crate::device::cpu::simd::{fma, multiversion};

/// Most rows that read keys together.
const TOGETHER: usize = 8;
/// Keys of one task; fixed, so that the merge does not depend on the threads.
const SPLIT: usize = 256;
/// Keys whose scores are held at a time.
const TILE: usize = 64;

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
pub(crate) fn decode<E: Operand>(o: &mut [f32], operands: &Decode<E>) {
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
            with_scratch(task.count * sizes.h * TILE, |scores| walk::attend(part, scores, operands, task));
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

multiversion! {
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
