//! Forward: one task per few tiles of queries, online softmax over their tiles of keys.

use rayon::prelude::*;

use super::form::{self, Form};
use super::keys::{KeyTile, KeyTiles};
use super::tile::{Extent, Multiply, SIDE, Vectors, dropout_factors, gather, mask, padded};
use super::{Attention, Pattern, Sizes, Way};
use crate::device::cpu::math::exp_nonpositive;
use crate::device::cpu::microkernel::{Baseline, Floats, LINE, Strides, prefetch};
use crate::device::cpu::pack::PanelSource;
use crate::device::cpu::scratch::with_scratch;
use crate::device::cpu::simd::{BASELINE_FMA, by_level, fma};
use crate::shape::Stored;

/// Queries of a narrow tile, for decoding.
pub(super) const NARROW: usize = 16;

/// Most tiles of queries that meet a tile of keys while it is near.
const MOST_TILES: usize = 8;
/// Tasks of a head, at least: heads and samples make them enough for the threads of a processor.
const TASKS: usize = 4;

/// The code for some tiles of queries.
pub type Run<E> = unsafe fn(Task<E>, Shared, &mut [f32]);

/// Some tiles of queries of one head.
#[derive(Clone, Copy)]
pub struct Task<'a, E> {
    attention: &'a Attention<'a, E>,
    b: usize,
    h: usize,
    /// First query, and the one after the last.
    queries: (usize, usize),
    /// Queries of a tile.
    step: usize,
}

/// The outputs, shared by tasks that write different rows of different heads.
#[derive(Clone, Copy)]
pub struct Shared {
    o: *mut f32,
    lse: *mut f32,
}
// SAFETY: tasks write disjoint elements.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Writes `o` `[B, T, H, D]` and `lse` `[B, H, T]`, the log of each query's sum of exponentials.
///
/// A query that sees no key gets zeros and `-inf`. Panics where a length contradicts the sizes.
pub fn attention_forward<E: Stored>(way: Way<E>, o: &mut [f32], lse: &mut [f32], attention: &Attention<E>) {
    attention.check();
    let Sizes { b, t, h, d, .. } = attention.sizes;
    assert_eq!(o.len(), attention.q.len(), "attention: o is not [B, T, H, D]");
    assert_eq!(lse.len(), b * h * t, "attention: lse is not [B, H, T]");
    if o.is_empty() {
        return;
    }
    let shared = Shared { o: o.as_mut_ptr(), lse: lse.as_mut_ptr() };
    let step = attention.query_step();
    let together = tiles_together(&attention.pattern, t.div_ceil(step));
    let tasks = t.div_ceil(together * step);
    let run = if t.min(step) <= NARROW { way.forward_narrow } else { way.forward };
    let wide = padded(d);
    (0..b * h * tasks).into_par_iter().for_each(|index| {
        let (head, first) = (index / tasks, index % tasks * together * step);
        let queries = (first, t.min(first + together * step));
        let task = Task { attention, b: head / h, h: head % h, queries, step };
        let floats = (3 + 2 * together) * SIDE * wide + 3 * SIDE * SIDE;
        with_scratch(floats, |scratch| {
            // SAFETY: a way is of instructions that were detected; no other task has these queries of this head.
            unsafe { run(task, shared, scratch) }
        });
    });
}

/// How many of so many tiles of queries a task has: those of one block see keys that others do not. It depends on these
/// alone, as the bits may depend on it where the processor multiplies tiles.
fn tiles_together(pattern: &Pattern, tiles: usize) -> usize {
    match pattern {
        Pattern::BlockSparse { .. } => 1,
        Pattern::Dense { .. } | Pattern::Window { .. } => (tiles / TASKS).clamp(1, MOST_TILES),
    }
}

by_level! {
    pub fn whole(task: Task<f32>, shared: Shared, scratch: &mut [f32]) {
        Avx512 => run_tiles::<Vectors<__m512, Floats, 8>, form::Floats, SIDE, true>(task, shared, scratch),
        Avx2 => run_tiles::<Vectors<__m256, Floats, 4>, form::Floats, SIDE, true>(task, shared, scratch),
        Portable => run_tiles::<Vectors<Baseline, Floats, 4>, form::Floats, SIDE, BASELINE_FMA>(task, shared, scratch),
    }
}

by_level! {
    /// The same for few queries.
    pub fn narrow(task: Task<f32>, shared: Shared, scratch: &mut [f32]) {
        Avx512 => run_tiles::<Vectors<__m512, Floats, 8>, form::Floats, NARROW, true>(task, shared, scratch),
        Avx2 => run_tiles::<Vectors<__m256, Floats, 4>, form::Floats, NARROW, true>(task, shared, scratch),
        Portable => run_tiles::<Vectors<Baseline, Floats, 4>, form::Floats, NARROW, BASELINE_FMA>(task, shared, scratch),
    }
}

/// Running maximum and sum of each query of a tile.
struct Softmax<const BQ: usize> {
    max: [f32; BQ],
    sum: [f32; BQ],
}

/// A tile of queries: these, transposed, and what they have summed so far.
struct Tile<'a, const BQ: usize> {
    first: usize,
    count: usize,
    q_t: &'a mut [f32],
    o: &'a mut [f32],
    softmax: Softmax<BQ>,
}

/// # Safety
/// The instructions of `M` must exist, and no other task may have these queries of this head.
#[inline(always)]
pub unsafe fn run_tiles<M: Multiply, F: Form, const BQ: usize, const FMA: bool>(
    task: Task<F::Stored>,
    shared: Shared,
    scratch: &mut [f32],
) {
    let Task { attention, b, h, queries, step } = task;
    let Sizes { s, d, .. } = attention.sizes;
    let wide = padded(d);
    let (k, rest) = scratch.split_at_mut(SIDE * wide);
    let (v, rest) = rest.split_at_mut(SIDE * wide);
    let (v_room, rest) = rest.split_at_mut(SIDE * wide);
    let (scores, rest) = rest.split_at_mut(SIDE * SIDE);
    let (factors, rest) = rest.split_at_mut(SIDE * SIDE);
    let (p_room, rest) = rest.split_at_mut(SIDE * SIDE);
    let takes_part = |i| attention.pattern.has_query(&attention.sizes, b, i);
    let mut tiles = Vec::with_capacity(MOST_TILES);
    for (first, room) in (queries.0..queries.1).step_by(step).zip(rest.chunks_exact_mut(2 * SIDE * wide)) {
        let count = step.min(queries.1 - first);
        let (q_t, o) = room.split_at_mut(SIDE * wide);
        let (q_t, softmax) = (&mut q_t[..F::words(d) * BQ], Softmax::<BQ>::new());
        let tile = Tile { first, count, q_t, o, softmax };
        if s == 0 || !(first..first + count).any(takes_part) {
            // SAFETY: the caller's contract.
            unsafe { tile.write(&task, shared) };
            continue;
        }
        let from = attention.query_offset(b, h, first);
        let data = &attention.q[from..];
        let rows = PanelSource { data, across: attention.row_stride(), along: 1, width: count, depth: d };
        F::transposed(tile.q_t, BQ, rows);
        if F::VALUES == 1 {
            tile.q_t.iter_mut().for_each(|x| *x *= attention.scale);
        }
        tile.o[..BQ * wide].fill(0.0);
        tiles.push(tile);
    }
    if tiles.is_empty() {
        return;
    }
    let mut key_tiles = KeyTiles::new(&attention.pattern, attention.sizes, b, h, queries);
    let mut keys = KeyTile::new();
    // SAFETY: the caller's contract.
    let mut products = unsafe { M::new() };
    while key_tiles.next(&mut keys) {
        let offset = |j: usize| attention.key_offset(b, h, j);
        gather::<F>((k, wide), attention.k, offset, &keys, d);
        gather::<F>((v, wide), attention.v, offset, &keys, d);
        let v = F::right(v, wide, keys.len, d, v_room);
        fetch(attention, offset, &keys);
        for tile in &mut tiles {
            let queries = (tile.first, tile.first + tile.count);
            if !keys.meet(queries) {
                continue;
            }
            // SAFETY: the caller's contract.
            unsafe {
                let extent = Extent { rows: keys.len, columns: BQ, depth: F::words(d) };
                let left = Strides { row: wide, depth: 1 };
                products.multiply::<false>((scores, BQ), k, left, (tile.q_t, BQ), extent);
            }
            if F::VALUES > 1 {
                // A query times the scale may be no bf16.
                scores[..keys.len * BQ].iter_mut().for_each(|x| *x *= attention.scale);
            }
            mask::<BQ>(scores, &keys, tile.first);
            tile.softmax.add::<FMA>(&mut scores[..keys.len * BQ], &mut tile.o[..BQ * wide], wide);
            if attention.dropout.is_some() {
                dropout_factors(factors, BQ, attention, b * attention.sizes.h + h, queries, &keys);
                for row in 0..keys.len {
                    let at = row * BQ;
                    for i in at..at + tile.count {
                        scores[i] *= factors[i];
                    }
                }
            }
            let p = F::right_of(&scores[..keys.len * BQ], BQ, p_room);
            // SAFETY: the caller's contract.
            unsafe {
                let extent = Extent { rows: tile.count, columns: wide, depth: F::words(keys.len) };
                let left = Strides { row: 1, depth: BQ };
                products.multiply::<true>((tile.o, wide), p, left, (v, wide), extent);
            }
        }
    }
    for tile in tiles {
        // SAFETY: the caller's contract.
        unsafe { tile.write(&task, shared) };
    }
}

/// Asks for the rows of k and v behind those of the keys, which come next but in a table of blocks: they lie far apart, so
/// that caches keep few.
#[inline(always)]
pub(super) fn fetch<E>(attention: &Attention<E>, offset: impl Fn(usize) -> usize, keys: &KeyTile) {
    let Sizes { s, d, .. } = attention.sizes;
    if matches!(attention.pattern, Pattern::BlockSparse { .. }) {
        return;
    }
    for &position in &keys.position[..keys.len] {
        let next = position as usize + SIDE;
        if next < s {
            for rows in [attention.k, attention.v] {
                let row = rows[offset(next)..][..d].as_ptr();
                (0..d).step_by(LINE / size_of::<E>()).for_each(|at| prefetch(row.wrapping_add(at)));
            }
        }
    }
}

impl<const BQ: usize> Tile<'_, BQ> {
    /// Writes o and lse: zeros and `-inf` for a query that saw nothing, or does not take part.
    ///
    /// # Safety
    /// No other task may have these queries of this head.
    #[inline(always)]
    unsafe fn write<E>(self, task: &Task<E>, shared: Shared) {
        let Task { attention, b, h, .. } = *task;
        let Sizes { t, d, .. } = attention.sizes;
        let lse_start = (b * attention.sizes.h + h) * t + self.first;
        let Softmax { max, sum } = self.softmax;
        for i in 0..self.count {
            // A NaN sum is passed on, so that a broken model shows; what a hidden query holds is not.
            let seen = sum[i] != 0.0 && attention.pattern.has_query(&attention.sizes, b, self.first + i);
            let at = attention.query_offset(b, h, self.first + i);
            // SAFETY: `attention_forward` checked the lengths; this query of this head is the task's own.
            let (out, lse) = unsafe {
                let out = std::slice::from_raw_parts_mut(shared.o.add(at), d);
                (out, &mut *shared.lse.add(lse_start + i))
            };
            if seen {
                let scale = 1.0 / sum[i];
                for (out, x) in out.iter_mut().zip(&self.o[i * padded(d)..]) {
                    *out = x * scale;
                }
                *lse = max[i] + sum[i].ln();
            } else {
                out.fill(0.0);
                *lse = f32::NEG_INFINITY;
            }
        }
    }
}

impl<const BQ: usize> Softmax<BQ> {
    fn new() -> Self {
        Softmax { max: [f32::NEG_INFINITY; BQ], sum: [0.0; BQ] }
    }

    /// Turns scores into exponentials against the new maximum, and rescales what came before.
    #[inline(always)]
    fn add<const FMA: bool>(&mut self, scores: &mut [f32], o: &mut [f32], wide: usize) {
        let mut max = self.max;
        for row in scores.chunks_exact(BQ) {
            for (max, &score) in max.iter_mut().zip(row) {
                *max = if score > *max { score } else { *max };
            }
        }
        let (mut shift, mut decay) = ([0.0f32; BQ], [0.0f32; BQ]);
        for i in 0..BQ {
            // A query that has seen nothing yet has no maximum; -inf - -inf would be NaN.
            shift[i] = if max[i] == f32::NEG_INFINITY { 0.0 } else { max[i] };
            decay[i] = exp_nonpositive::<FMA>(self.max[i] - shift[i]);
        }
        let mut sum = [0.0f32; BQ];
        for row in scores.chunks_exact_mut(BQ) {
            for i in 0..BQ {
                let p = exp_nonpositive::<FMA>(row[i] - shift[i]);
                row[i] = p;
                sum[i] += p;
            }
        }
        for i in 0..BQ {
            self.sum[i] = fma::<FMA>(self.sum[i], decay[i], sum[i]);
        }
        if max != self.max {
            for (row, decay) in o.chunks_exact_mut(wide).zip(decay) {
                for x in row {
                    *x *= decay;
                }
            }
        }
        self.max = max;
    }
}
