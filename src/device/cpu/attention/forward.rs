//! Forward: one task per tile of queries, online softmax over its tiles of keys.

use rayon::prelude::*;

use super::form::{self, Form};
use super::keys::{KeyTile, KeyTiles};
use super::tile::{Extent, Multiply, SIDE, Vectors, dropout_factors, gather, mask, padded};
use super::{Attention, Sizes, Way};
use crate::device::cpu::math::exp_nonpositive;
use crate::device::cpu::microkernel::{Baseline, Floats, Strides};
use crate::device::cpu::pack::PanelSource;
use crate::device::cpu::scratch::with_scratch;
use crate::device::cpu::simd::{BASELINE_FMA, by_level, fma};
use crate::shape::Stored;

/// Queries of a narrow tile, for decoding.
pub(super) const NARROW: usize = 16;

/// The code for one tile of queries.
pub type Run<E> = unsafe fn(Task<E>, Shared, &mut [f32]);

/// One tile of queries of one head.
#[derive(Clone, Copy)]
pub struct Task<'a, E> {
    attention: &'a Attention<'a, E>,
    b: usize,
    h: usize,
    /// First query, and the one after the last.
    queries: (usize, usize),
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
    let tiles = t.div_ceil(step);
    let run = if t.min(step) <= NARROW { way.forward_narrow } else { way.forward };
    let wide = padded(d);
    (0..b * h * tiles).into_par_iter().for_each(|index| {
        let (head, tile) = (index / tiles, index % tiles);
        let queries = (tile * step, t.min((tile + 1) * step));
        let task = Task { attention, b: head / h, h: head % h, queries };
        let floats = 5 * SIDE * wide + 3 * SIDE * SIDE;
        with_scratch(floats, |scratch| {
            // SAFETY: a way is of instructions that were detected; no other task has these queries of this head.
            unsafe { run(task, shared, scratch) }
        });
    });
}

by_level! {
    pub fn whole(task: Task<f32>, shared: Shared, scratch: &mut [f32]) {
        Avx512 => run_tile::<Vectors<__m512, Floats, 8>, form::Floats, SIDE, true>(task, shared, scratch),
        Avx2 => run_tile::<Vectors<__m256, Floats, 4>, form::Floats, SIDE, true>(task, shared, scratch),
        Portable => run_tile::<Vectors<Baseline, Floats, 4>, form::Floats, SIDE, BASELINE_FMA>(task, shared, scratch),
    }
}

by_level! {
    /// The same for few queries.
    pub fn narrow(task: Task<f32>, shared: Shared, scratch: &mut [f32]) {
        Avx512 => run_tile::<Vectors<__m512, Floats, 8>, form::Floats, NARROW, true>(task, shared, scratch),
        Avx2 => run_tile::<Vectors<__m256, Floats, 4>, form::Floats, NARROW, true>(task, shared, scratch),
        Portable => run_tile::<Vectors<Baseline, Floats, 4>, form::Floats, NARROW, BASELINE_FMA>(task, shared, scratch),
    }
}

/// Running maximum and sum of each query of a tile.
struct Softmax<const BQ: usize> {
    max: [f32; BQ],
    sum: [f32; BQ],
}

/// # Safety
/// The instructions of `M` must exist, and no other task may have these queries of this head.
#[inline(always)]
pub unsafe fn run_tile<M: Multiply, F: Form, const BQ: usize, const FMA: bool>(
    task: Task<F::Stored>,
    shared: Shared,
    scratch: &mut [f32],
) {
    let Task { attention, b, h, queries } = task;
    let Sizes { s, d, .. } = attention.sizes;
    let wide = padded(d);
    let (q_t, rest) = scratch.split_at_mut(SIDE * wide);
    let (k, rest) = rest.split_at_mut(SIDE * wide);
    let (v, rest) = rest.split_at_mut(SIDE * wide);
    let (o, rest) = rest.split_at_mut(SIDE * wide);
    let (v_room, rest) = rest.split_at_mut(SIDE * wide);
    let (scores, rest) = rest.split_at_mut(SIDE * SIDE);
    let (factors, p_room) = rest.split_at_mut(SIDE * SIDE);
    let n = queries.1 - queries.0;
    let q_start = attention.query_offset(b, h, queries.0);
    let mut softmax = Softmax::<BQ> { max: [f32::NEG_INFINITY; BQ], sum: [0.0; BQ] };
    let taking_part = (queries.0..queries.1).any(|i| attention.pattern.has_query(&attention.sizes, b, i));
    if taking_part && s > 0 {
        let rows = PanelSource {
            data: &attention.q[q_start..],
            across: attention.row_stride(),
            along: 1,
            width: n,
            depth: d,
        };
        let q_t = &mut q_t[..F::words(d) * BQ];
        F::transposed(q_t, BQ, rows);
        if F::VALUES == 1 {
            q_t.iter_mut().for_each(|x| *x *= attention.scale);
        }
        o[..BQ * wide].fill(0.0);
        let mut tiles = KeyTiles::new(&attention.pattern, attention.sizes, b, h, queries);
        let mut keys = KeyTile::new();
        // SAFETY: the caller's contract.
        let mut products = unsafe { M::new() };
        while tiles.next(&mut keys) {
            let offset = |j: usize| attention.key_offset(b, h, j);
            gather::<F>((k, wide), attention.k, offset, &keys, d);
            gather::<F>((v, wide), attention.v, offset, &keys, d);
            let v = F::right(v, wide, keys.len, d, v_room);
            // SAFETY: the caller's contract.
            unsafe {
                let extent = Extent { rows: keys.len, columns: BQ, depth: F::words(d) };
                let left = Strides { row: wide, depth: 1 };
                products.multiply::<false>((scores, BQ), k, left, (q_t, BQ), extent);
            }
            if F::VALUES > 1 {
                // A query times the scale may be no bf16.
                scores[..keys.len * BQ].iter_mut().for_each(|x| *x *= attention.scale);
            }
            mask::<BQ>(scores, &keys, queries.0);
            softmax.add::<FMA>(&mut scores[..keys.len * BQ], &mut o[..BQ * wide], wide);
            if attention.dropout.is_some() {
                dropout_factors(factors, BQ, attention, b * attention.sizes.h + h, queries, &keys);
                for row in 0..keys.len {
                    let at = row * BQ;
                    for i in at..at + n {
                        scores[i] *= factors[i];
                    }
                }
            }
            let p = F::right_of(&scores[..keys.len * BQ], BQ, p_room);
            // SAFETY: the caller's contract.
            unsafe {
                let extent = Extent { rows: n, columns: wide, depth: F::words(keys.len) };
                let left = Strides { row: 1, depth: BQ };
                products.multiply::<true>((o, wide), p, left, (v, wide), extent);
            }
        }
    }
    let lse_start = (b * attention.sizes.h + h) * attention.sizes.t + queries.0;
    for i in 0..n {
        // A NaN sum is passed on, so that a broken model shows; what a hidden query holds is not.
        let seen = softmax.sum[i] != 0.0 && attention.pattern.has_query(&attention.sizes, b, queries.0 + i);
        let at = attention.query_offset(b, h, queries.0 + i);
        // SAFETY: `attention_forward` checked the lengths; this query of this head is the task's own.
        let (out, lse) = unsafe {
            let out = std::slice::from_raw_parts_mut(shared.o.add(at), d);
            (out, &mut *shared.lse.add(lse_start + i))
        };
        if seen {
            let scale = 1.0 / softmax.sum[i];
            for (out, x) in out.iter_mut().zip(&o[i * wide..]) {
                *out = x * scale;
            }
            *lse = softmax.max[i] + softmax.sum[i].ln();
        } else {
            out.fill(0.0);
            *lse = f32::NEG_INFINITY;
        }
    }
}

impl<const BQ: usize> Softmax<BQ> {
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
