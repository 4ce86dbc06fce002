//! Backward: one task per head, five products a tile, probabilities recomputed from lse.

use rayon::prelude::*;

use super::forward::NARROW;
use super::keys::{KeyTile, KeyTiles};
use super::tile::{Extent, SIDE, dropout_factors, gather, mask, multiply, padded, transpose_queries};
use super::{Attention, Sizes};
use crate::device::cpu::gemm::Store;
use crate::device::cpu::math::exp_nonpositive;
use crate::device::cpu::microkernel::{Baseline, Strides, Vector};
use crate::device::cpu::scratch::with_scratch;
use crate::device::cpu::simd::{BASELINE_FMA, by_level, level};

/// Where the gradients go; an empty slice is a gradient that nobody wants.
pub struct Gradients<'a> {
    /// `[B, T, H, D]`
    pub dq: &'a mut [f32],
    /// `[B, S, H, D]`
    pub dk: &'a mut [f32],
    /// `[B, S, H, D]`
    pub dv: &'a mut [f32],
    /// For dq, dk and dv.
    pub store: [Store; 3],
}

/// The outputs, shared by tasks that write different heads.
#[derive(Clone, Copy)]
struct Shared {
    /// Start and length; the length is zero for a gradient nobody wants.
    dq: (*mut f32, usize),
    dk: (*mut f32, usize),
    dv: (*mut f32, usize),
    store: [Store; 3],
}
// SAFETY: tasks write disjoint elements.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// One head of one sample.
#[derive(Clone, Copy)]
struct Task<'a> {
    attention: &'a Attention<'a>,
    dout: &'a [f32],
    o: &'a [f32],
    lse: &'a [f32],
    b: usize,
    h: usize,
}

/// Adds or assigns the gradients of q, k and v, given `dout`, and `o` and `lse` of the forward.
///
/// Panics where a length contradicts the sizes.
pub fn attention_backward(gradients: Gradients, dout: &[f32], o: &[f32], lse: &[f32], attention: &Attention) {
    attention.check();
    let Sizes { b, t, h, d, .. } = attention.sizes;
    let Gradients { dq, dk, dv, store } = gradients;
    let fits = |x: &[f32], like: &[f32]| x.is_empty() || x.len() == like.len();
    assert!(fits(dq, attention.q), "attention: dq is not [B, T, H, D]");
    assert!(fits(dk, attention.k), "attention: dk is not [B, S, H, D]");
    assert!(fits(dv, attention.v), "attention: dv is not [B, S, H, D]");
    assert_eq!(dout.len(), attention.q.len(), "attention: dout is not [B, T, H, D]");
    assert_eq!(o.len(), dout.len(), "attention: o is not [B, T, H, D]");
    assert_eq!(lse.len(), b * h * t, "attention: lse is not [B, H, T]");
    let shared = Shared {
        dq: (dq.as_mut_ptr(), dq.len()),
        dk: (dk.as_mut_ptr(), dk.len()),
        dv: (dv.as_mut_ptr(), dv.len()),
        store,
    };
    let run = if t.min(attention.query_step()) <= NARROW { narrow(level()) } else { whole(level()) };
    let floats = 8 * SIDE * padded(d) + 3 * SIDE * SIDE;
    (0..b * h).into_par_iter().for_each(|head| {
        let (b, h) = (head / h, head % h);
        let task = Task { attention, dout, o, lse, b, h };
        with_scratch(floats, |scratch| {
            // SAFETY: `level` reports only instructions that were detected; no other task has
            // this head of this sample.
            unsafe { run(task, shared, scratch) }
        });
    });
}

by_level! {
    fn whole(task: Task, shared: Shared, scratch: &mut [f32]) {
        Avx512 => run_head::<__m512, 8, SIDE, true>(task, shared, scratch),
        Avx2 => run_head::<__m256, 4, SIDE, true>(task, shared, scratch),
        Portable => run_head::<Baseline, 4, SIDE, BASELINE_FMA>(task, shared, scratch),
    }
}

by_level! {
    /// The same for few queries.
    fn narrow(task: Task, shared: Shared, scratch: &mut [f32]) {
        Avx512 => run_head::<__m512, 8, NARROW, true>(task, shared, scratch),
        Avx2 => run_head::<__m256, 4, NARROW, true>(task, shared, scratch),
        Portable => run_head::<Baseline, 4, NARROW, BASELINE_FMA>(task, shared, scratch),
    }
}

/// Row `offset .. offset + d` of an output that the task owns; empty where nobody wants it.
///
/// # Safety
/// No other task may own the row.
#[inline(always)]
unsafe fn row<'a>(out: (*mut f32, usize), offset: usize, d: usize) -> &'a mut [f32] {
    if out.1 == 0 {
        return &mut [];
    }
    assert!(offset + d <= out.1);
    // SAFETY: inside the output, by the assertion, and the task's own.
    unsafe { std::slice::from_raw_parts_mut(out.0.add(offset), d) }
}

/// # Safety
/// The instructions of `V` must exist, and no other task may have this head of this sample.
#[inline(always)]
unsafe fn run_head<V: Vector, const MR: usize, const BQ: usize, const FMA: bool>(
    task: Task,
    shared: Shared,
    scratch: &mut [f32],
) {
    let Task { attention, b, h, .. } = task;
    let Sizes { t, s_capacity, d, .. } = attention.sizes;
    for (out, store) in [(shared.dk, shared.store[1]), (shared.dv, shared.store[2])] {
        for j in 0..s_capacity {
            if store == Store::Assign {
                // SAFETY: rows of this head belong to this task.
                unsafe { row(out, attention.key_offset(b, h, j), d) }.fill(0.0);
            }
        }
    }
    let step = attention.query_step();
    for first in (0..t).step_by(step) {
        let queries = (first, t.min(first + step));
        // SAFETY: the caller's contract.
        unsafe { run_tile::<V, MR, BQ, FMA>(&task, queries, shared, scratch) };
    }
}

/// # Safety
/// See [`run_head`].
#[inline(always)]
unsafe fn run_tile<V: Vector, const MR: usize, const BQ: usize, const FMA: bool>(
    task: &Task,
    queries: (usize, usize),
    shared: Shared,
    scratch: &mut [f32],
) {
    let Task { attention, dout, o, lse, b, h } = *task;
    let Sizes { t, d, .. } = attention.sizes;
    let wide = padded(d);
    let (q_t, rest) = scratch.split_at_mut(SIDE * wide);
    let (q, rest) = rest.split_at_mut(SIDE * wide);
    let (dout_t, rest) = rest.split_at_mut(SIDE * wide);
    let (dout_rows, rest) = rest.split_at_mut(SIDE * wide);
    let (dq, rest) = rest.split_at_mut(SIDE * wide);
    let (k, rest) = rest.split_at_mut(SIDE * wide);
    let (v, rest) = rest.split_at_mut(SIDE * wide);
    let (d_key, rest) = rest.split_at_mut(SIDE * wide);
    let (p, rest) = rest.split_at_mut(SIDE * SIDE);
    let (ds, factors) = rest.split_at_mut(SIDE * SIDE);

    let n = queries.1 - queries.0;
    let head = b * attention.sizes.h + h;
    // exp(s - inf) = 0: a query that saw nothing has no gradient. It may hold anything: zeros stand for it.
    let mut shift = [f32::INFINITY; BQ];
    let mut delta = [0.0f32; BQ];
    for i in 0..n {
        let saved = lse[head * t + queries.0 + i];
        let at = attention.query_offset(b, h, queries.0 + i);
        let rows = i * wide..i * wide + d;
        if saved == f32::NEG_INFINITY {
            q[rows.clone()].fill(0.0);
            dout_rows[rows].fill(0.0);
            continue;
        }
        shift[i] = saved;
        let pairs = dout[at..at + d].iter().zip(&o[at..at + d]);
        delta[i] = pairs.map(|(x, y)| x * y).sum();
        dout_rows[rows.clone()].copy_from_slice(&dout[at..at + d]);
        for (to, from) in q[rows].iter_mut().zip(&attention.q[at..at + d]) {
            *to = from * attention.scale;
        }
    }
    dq[..BQ * wide].fill(0.0);
    if shift.iter().any(|&x| x != f32::INFINITY) {
        transpose_queries(q_t, BQ, q, wide, n, d);
        transpose_queries(dout_t, BQ, dout_rows, wide, n, d);
        let mut tiles = KeyTiles::new(&attention.pattern, attention.sizes, b, h, queries);
        let mut keys = KeyTile::new();
        while tiles.next(&mut keys) {
            let positions = &keys.position[..keys.len];
            let offset = |j: usize| attention.key_offset(b, h, j);
            gather((k, wide), attention.k, offset, &keys, d);
            gather((v, wide), attention.v, offset, &keys, d);
            let by_key = Extent { rows: keys.len, columns: BQ, depth: d };
            let rows = Strides { row: wide, depth: 1 };
            // SAFETY: the caller's contract.
            unsafe {
                multiply::<V, MR, false>((p, BQ), k, rows, (q_t, BQ), by_key);
                multiply::<V, MR, false>((ds, BQ), v, rows, (dout_t, BQ), by_key);
            }
            mask::<BQ>(p, &keys, queries.0);
            let used = keys.len * BQ;
            if attention.dropout.is_some() {
                // Columns beyond the last query hold no factor.
                factors[..used].fill(0.0);
                dropout_factors(factors, BQ, attention, head, queries, &keys);
                score_gradients::<BQ, FMA, true>(&mut p[..used], &mut ds[..used], factors, &shift, &delta);
            } else {
                score_gradients::<BQ, FMA, false>(&mut p[..used], &mut ds[..used], factors, &shift, &delta);
            }
            let to_keys = Extent { rows: keys.len, columns: wide, depth: n };
            let to_queries = Extent { rows: n, columns: wide, depth: keys.len };
            let (across, along) = (Strides { row: BQ, depth: 1 }, Strides { row: 1, depth: BQ });
            // SAFETY: the caller's contract.
            unsafe {
                multiply::<V, MR, false>((d_key, wide), p, across, (dout_rows, wide), to_keys);
                scatter_add(shared.dv, d_key, wide, offset, positions, d);
                multiply::<V, MR, false>((d_key, wide), ds, across, (q, wide), to_keys);
                scatter_add(shared.dk, d_key, wide, offset, positions, d);
                multiply::<V, MR, true>((dq, wide), ds, along, (k, wide), to_queries);
            }
        }
    }
    for i in 0..n {
        // SAFETY: rows of this head belong to this task.
        let out = unsafe { row(shared.dq, attention.query_offset(b, h, queries.0 + i), d) };
        for (out, x) in out.iter_mut().zip(&dq[i * wide..]) {
            let old = if shared.store[0] == Store::Add { *out } else { 0.0 };
            *out = x * attention.scale + old;
        }
    }
}

/// Adds the rows of a tile to the rows of `positions`.
///
/// # Safety
/// No other task may own those rows.
#[inline(always)]
unsafe fn scatter_add(
    out: (*mut f32, usize),
    tile: &[f32],
    stride: usize,
    offset: impl Fn(usize) -> usize,
    positions: &[u32],
    d: usize,
) {
    for (from, &position) in tile.chunks_exact(stride).zip(positions) {
        // SAFETY: the caller's contract.
        let to = unsafe { row(out, offset(position as usize), d) };
        for (to, from) in to.iter_mut().zip(from) {
            *to += from;
        }
    }
}

/// From scores and the gradient of the dropped probabilities: `p` becomes the dropped
/// probabilities, `ds` the gradient of the scores, p (dp - delta).
#[inline(always)]
fn score_gradients<const BQ: usize, const FMA: bool, const DROPOUT: bool>(
    p: &mut [f32],
    ds: &mut [f32],
    factors: &[f32],
    shift: &[f32; BQ],
    delta: &[f32; BQ],
) {
    let rows = p.chunks_exact_mut(BQ).zip(ds.chunks_exact_mut(BQ)).zip(factors.chunks_exact(BQ));
    for ((p, ds), factors) in rows {
        for i in 0..BQ {
            let kept = exp_nonpositive::<FMA>(p[i] - shift[i]);
            let factor = if DROPOUT { factors[i] } else { 1.0 };
            ds[i] = kept * (ds[i] * factor - delta[i]);
            p[i] = kept * factor;
        }
    }
}
