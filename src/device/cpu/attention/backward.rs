//! Backward: one task per head, five products for a tile of queries and one of keys, probabilities recomputed from lse.

use rayon::prelude::*;

use super::form::{self, Form};
use super::forward::{NARROW, fetch};
use super::keys::{KeyTile, KeyTiles};
use super::tile::{Extent, Multiply, SIDE, Vectors, dropout_factors, gather, mask, padded};
use super::{Attention, Pattern, Sizes, Way};
use crate::device::cpu::gemm::Store;
use crate::device::cpu::math::exp_nonpositive;
use crate::device::cpu::microkernel::{Baseline, Floats, Strides};
use crate::device::cpu::pack::PanelSource;
use crate::device::cpu::scratch::with_scratch;
use crate::device::cpu::simd::{BASELINE_FMA, by_level};
use crate::shape::Stored;

/// Most tiles of queries that meet a tile of keys while it is near: with their operands, they have to fit the second-level
/// cache.
const MOST_TILES: usize = 4;

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
pub struct Shared {
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

/// The code for one head.
pub type Run<E> = unsafe fn(Task<E>, Shared, &mut [f32]);

/// One head of one sample.
#[derive(Clone, Copy)]
pub struct Task<'a, E> {
    attention: &'a Attention<'a, E>,
    dout: &'a [E],
    o: &'a [E],
    lse: &'a [f32],
    b: usize,
    h: usize,
}

/// Adds or assigns the gradients of q, k and v, given `dout`, and `o` and `lse` of the forward.
///
/// Panics where a length contradicts the sizes.
pub fn attention_backward<E: Stored>(
    way: Way<E>,
    gradients: Gradients,
    dout: &[E],
    o: &[E],
    lse: &[f32],
    attention: &Attention<E>,
) {
    attention.check();
    let Sizes { b, t, h, d, .. } = attention.sizes;
    let Gradients { dq, dk, dv, store } = gradients;
    let fits = |x: &[f32], like: &[E]| x.is_empty() || x.len() == like.len();
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
    let few = t.min(attention.query_step()) <= NARROW;
    let run = if few { way.backward_narrow } else { way.backward };
    let floats = (5 + MATRICES * tiles_together(&attention.pattern)) * SIDE * padded(d) + 4 * SIDE * SIDE;
    (0..b * h).into_par_iter().for_each(|head| {
        let (b, h) = (head / h, head % h);
        let task = Task { attention, dout, o, lse, b, h };
        with_scratch(floats, |scratch| {
            // SAFETY: a way is of instructions that were detected; no other task has this head of this sample.
            unsafe { run(task, shared, scratch) }
        });
    });
}

/// How many tiles of queries meet a tile of keys while it is near: those of one block see keys that others do not.
fn tiles_together(pattern: &Pattern) -> usize {
    match pattern {
        Pattern::BlockSparse { .. } => 1,
        Pattern::Dense { .. } | Pattern::Window { .. } => MOST_TILES,
    }
}

by_level! {
    pub fn whole(task: Task<f32>, shared: Shared, scratch: &mut [f32]) {
        Avx512 => run_head::<Vectors<__m512, Floats, 8>, form::Floats, SIDE, true>(task, shared, scratch),
        Avx2 => run_head::<Vectors<__m256, Floats, 4>, form::Floats, SIDE, true>(task, shared, scratch),
        Portable => run_head::<Vectors<Baseline, Floats, 4>, form::Floats, SIDE, BASELINE_FMA>(task, shared, scratch),
    }
}

by_level! {
    /// The same for few queries.
    pub fn narrow(task: Task<f32>, shared: Shared, scratch: &mut [f32]) {
        Avx512 => run_head::<Vectors<__m512, Floats, 8>, form::Floats, NARROW, true>(task, shared, scratch),
        Avx2 => run_head::<Vectors<__m256, Floats, 4>, form::Floats, NARROW, true>(task, shared, scratch),
        Portable => run_head::<Vectors<Baseline, Floats, 4>, form::Floats, NARROW, BASELINE_FMA>(task, shared, scratch),
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

/// A tile of queries: these, the gradient of their outputs, and what they have summed so far.
struct Tile<'a, const BQ: usize> {
    first: usize,
    count: usize,
    /// Right operands whose columns are rows of q, and of the gradient of o.
    q_t: &'a [f32],
    dout_t: &'a [f32],
    /// Right operands with those rows.
    q: &'a [f32],
    dout: &'a [f32],
    dq: &'a mut [f32],
    shift: [f32; BQ],
    delta: [f32; BQ],
    /// Whether some of the queries saw a key.
    seen: bool,
}

/// Matrices of `SIDE` padded rows that a tile of queries has.
const MATRICES: usize = 7;

/// # Safety
/// The instructions of `M` must exist, and no other task may have this head of this sample.
#[inline(always)]
pub unsafe fn run_head<M: Multiply, F: Form, const BQ: usize, const FMA: bool>(
    task: Task<F::Stored>,
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
    let together = tiles_together(&attention.pattern) * attention.query_step();
    for first in (0..t).step_by(together) {
        let queries = (first, t.min(first + together));
        // SAFETY: the caller's contract.
        unsafe { run_tiles::<M, F, BQ, FMA>(&task, queries, shared, scratch) };
    }
}

/// Sums what a few tiles of queries and all that they see give each other.
///
/// # Safety
/// See [`run_head`].
#[inline(always)]
unsafe fn run_tiles<M: Multiply, F: Form, const BQ: usize, const FMA: bool>(
    task: &Task<F::Stored>,
    queries: (usize, usize),
    shared: Shared,
    scratch: &mut [f32],
) {
    let Task { attention, b, h, .. } = *task;
    let d = attention.sizes.d;
    let wide = padded(d);
    let (k, rest) = scratch.split_at_mut(SIDE * wide);
    let (v, rest) = rest.split_at_mut(SIDE * wide);
    let (dk, rest) = rest.split_at_mut(SIDE * wide);
    let (dv, rest) = rest.split_at_mut(SIDE * wide);
    let (k_room, rest) = rest.split_at_mut(SIDE * wide);
    let (p, rest) = rest.split_at_mut(SIDE * SIDE);
    let (ds, rest) = rest.split_at_mut(SIDE * SIDE);
    let (factors, rest) = rest.split_at_mut(SIDE * SIDE);
    let (room, rest) = rest.split_at_mut(SIDE * SIDE);

    let step = attention.query_step();
    let mut tiles = Vec::with_capacity(MOST_TILES);
    let rooms = rest.chunks_exact_mut(MATRICES * SIDE * wide);
    for (first, room) in (queries.0..queries.1).step_by(step).zip(rooms) {
        tiles.push(Tile::<BQ>::new::<F>(task, (first, queries.1.min(first + step)), room));
    }
    if tiles.iter().any(|tile| tile.seen) {
        let head = b * attention.sizes.h + h;
        let mut key_tiles = KeyTiles::new(&attention.pattern, attention.sizes, b, h, queries);
        let mut keys = KeyTile::new();
        // SAFETY: the caller's contract.
        let mut products = unsafe { M::new() };
        while key_tiles.next(&mut keys) {
            let positions = &keys.position[..keys.len];
            let offset = |j: usize| attention.key_offset(b, h, j);
            gather::<F>((k, wide), attention.k, offset, &keys, d);
            gather::<F>((v, wide), attention.v, offset, &keys, d);
            fetch(attention, offset, &keys);
            let k_right = F::right(k, wide, keys.len, d, k_room);
            let rounded = keys.len.next_multiple_of(M::ROWS);
            dk[..rounded * wide].fill(0.0);
            dv[..rounded * wide].fill(0.0);
            for tile in &mut tiles {
                let queries = (tile.first, tile.first + tile.count);
                if !keys.meet(queries) || !tile.seen {
                    continue;
                }
                let by_key = Extent { rows: keys.len, columns: BQ, depth: F::words(d) };
                let rows = Strides { row: wide, depth: 1 };
                // SAFETY: the caller's contract.
                unsafe {
                    products.multiply::<false>((p, BQ), k, rows, (tile.q_t, BQ), by_key);
                    products.multiply::<false>((ds, BQ), v, rows, (tile.dout_t, BQ), by_key);
                }
                let used = keys.len * BQ;
                if F::VALUES > 1 {
                    // A query times the scale may be no bf16.
                    p[..used].iter_mut().for_each(|x| *x *= attention.scale);
                }
                mask::<BQ>(p, &keys, tile.first);
                let (shift, delta) = (&tile.shift, &tile.delta);
                if attention.dropout.is_some() {
                    // Columns beyond the last query hold no factor.
                    factors[..used].fill(0.0);
                    dropout_factors(factors, BQ, attention, head, queries, &keys);
                    score_gradients::<BQ, FMA, true>(&mut p[..used], &mut ds[..used], factors, shift, delta);
                } else {
                    score_gradients::<BQ, FMA, false>(&mut p[..used], &mut ds[..used], factors, shift, delta);
                }
                if F::VALUES > 1 {
                    ds[..used].iter_mut().for_each(|x| *x *= attention.scale);
                }
                let to_keys = Extent { rows: keys.len, columns: wide, depth: F::words(tile.count) };
                let to_queries = Extent { rows: tile.count, columns: wide, depth: F::words(keys.len) };
                let across = Strides { row: BQ / F::VALUES, depth: 1 };
                let along = Strides { row: 1, depth: BQ };
                // Rows of a product beyond those of keys come from the words behind them.
                let whole = rounded * BQ;
                // SAFETY: the caller's contract.
                unsafe {
                    let p = F::left_of(&p[..whole], room);
                    products.multiply::<true>((dv, wide), p, across, (tile.dout, wide), to_keys);
                    let ds_left = F::left_of(&ds[..whole], room);
                    products.multiply::<true>((dk, wide), ds_left, across, (tile.q, wide), to_keys);
                    let ds = F::right_of(&ds[..used], BQ, room);
                    products.multiply::<true>((tile.dq, wide), ds, along, (k_right, wide), to_queries);
                }
            }
            // SAFETY: the caller's contract.
            unsafe {
                scatter_add(shared.dv, dv, wide, offset, positions, d);
                scatter_add(shared.dk, dk, wide, offset, positions, d);
            }
        }
    }
    let scale = if F::VALUES == 1 { attention.scale } else { 1.0 };
    for tile in tiles {
        for i in 0..tile.count {
            // SAFETY: rows of this head belong to this task.
            let out = unsafe { row(shared.dq, attention.query_offset(b, h, tile.first + i), d) };
            for (out, x) in out.iter_mut().zip(&tile.dq[i * wide..]) {
                let old = if shared.store[0] == Store::Add { *out } else { 0.0 };
                *out = x * scale + old;
            }
        }
    }
}

impl<'a, const BQ: usize> Tile<'a, BQ> {
    /// Of `queries` of the task's head, its operands in `room`.
    #[inline(always)]
    fn new<F: Form>(task: &Task<F::Stored>, queries: (usize, usize), room: &'a mut [f32]) -> Self {
        let Task { attention, dout, o, lse, b, h } = *task;
        let Sizes { t, d, .. } = attention.sizes;
        let wide = padded(d);
        let (q_t, rest) = room.split_at_mut(SIDE * wide);
        let (q_rows, rest) = rest.split_at_mut(SIDE * wide);
        let (q_room, rest) = rest.split_at_mut(SIDE * wide);
        let (dout_t, rest) = rest.split_at_mut(SIDE * wide);
        let (dout_rows, rest) = rest.split_at_mut(SIDE * wide);
        let (dout_room, dq) = rest.split_at_mut(SIDE * wide);
        let count = queries.1 - queries.0;
        // exp(s - inf) = 0: a query that saw nothing has no gradient. It may hold anything: zeros stand for it.
        let (mut shift, mut delta) = ([f32::INFINITY; BQ], [0.0f32; BQ]);
        for i in 0..count {
            let saved = lse[(b * attention.sizes.h + h) * t + queries.0 + i];
            let at = attention.query_offset(b, h, queries.0 + i);
            let (q, dout_row) = (&mut q_rows[i * wide..][..wide], &mut dout_rows[i * wide..][..wide]);
            if saved == f32::NEG_INFINITY {
                q.fill(0.0);
                dout_row.fill(0.0);
                continue;
            }
            shift[i] = saved;
            let pairs = dout[at..at + d].iter().zip(&o[at..at + d]);
            delta[i] = pairs.map(|(x, y)| x.wide() * y.wide()).sum();
            F::left(dout_row, &dout[at..at + d]);
            F::left(q, &attention.q[at..at + d]);
            if F::VALUES == 1 {
                q[..d].iter_mut().for_each(|x| *x *= attention.scale);
            }
        }
        dq[..BQ * wide].fill(0.0);
        for (to, rows) in [(&mut *q_t, &*q_rows), (&mut *dout_t, &*dout_rows)] {
            let data = bytemuck::cast_slice(rows);
            let rows = PanelSource { data, across: F::VALUES * wide, along: 1, width: count, depth: d };
            F::transposed(&mut to[..F::words(d) * BQ], BQ, rows);
        }
        let q = F::right(q_rows, wide, count, d, q_room);
        let dout = F::right(dout_rows, wide, count, d, dout_room);
        let seen = shift.iter().any(|&x| x != f32::INFINITY);
        Tile { first: queries.0, count, q_t, dout_t, q, dout, dq, shift, delta, seen }
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
