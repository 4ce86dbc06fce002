//! The walk over the keys of one task: scores of a tile, their softmax so far, and its sum of values.

#[cfg(test)]
mod tests;

use super::{Decode, Sizes, TILE, Task};
use crate::device::cpu::math::exp_nonpositive;
use crate::device::cpu::microkernel::{Baseline, LINE, Operand, Vector, prefetch};
use crate::device::cpu::simd::{BASELINE_FMA, by_level, level};

/// Keys whose scores are computed side by side.
const KEYS: usize = 4;
/// Vectors of a value that are summed side by side.
const VALUES: usize = 4;

/// One task; its queries share their keys, or it has one only. `scores` holds `[T, H, TILE]`.
pub fn attend<E: Operand>(part: &mut [f32], scores: &mut [f32], x: &Decode<E>, task: Task) {
    // SAFETY: `level` reports only what was detected, and `Decode::check` has seen every length and index.
    unsafe { body_on(level())(part, scores, x, task) }
}

by_level! {
    fn body_on[E: Operand](part: &mut [f32], scores: &mut [f32], x: &Decode<E>, task: Task) {
        Avx512 => body::<__m512, E, true, 4>(part, scores, x, task),
        Avx2 => body::<__m256, E, true, 2>(part, scores, x, task),
        Portable => body::<Baseline, E, BASELINE_FMA, 2>(part, scores, x, task),
    }
}

/// `X` queries at a time, for whose sums there are registers.
///
/// # Safety
/// The operands must have passed `Decode::check`, and the instructions of `V` must exist.
#[inline(always)]
unsafe fn body<V: Vector, E: Operand, const FMA: bool, const X: usize>(
    part: &mut [f32],
    scores: &mut [f32],
    x: &Decode<E>,
    task: Task,
) {
    let Sizes { h, d, .. } = x.sizes;
    let Task { first, count: t, from, to } = task;
    let (max, rest) = part.split_at_mut(t * h);
    let (sum, o) = rest.split_at_mut(t * h);
    max.fill(f32::NEG_INFINITY);
    sum.fill(0.0);
    o.fill(0.0);
    let mut places = [0; TILE];
    for start in (from..to).step_by(TILE) {
        // A hidden key may hold anything, so it is not even looked at.
        let mut count = 0;
        for j in start..to.min(start + TILE) {
            let at = x.position(first, j);
            places[count] = at * h * d;
            count += usize::from(x.key_state.is_empty() || x.key_state[at] != 0);
        }
        let places = &places[..count];
        // SAFETY: the caller's contract; every place is the start of a key and of a value.
        unsafe { products::<V, E, X>(scores, x, (first, t), places) };
        for ((line, (max, sum)), o) in
            scores.chunks_exact_mut(TILE).zip(max.iter_mut().zip(sum.iter_mut())).zip(o.chunks_exact_mut(d))
        {
            let line = &mut line[..count];
            line.iter_mut().for_each(|score| *score *= x.scale);
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
        // SAFETY: as above.
        unsafe { values::<V, E, X>(o, scores, x, t, places) };
    }
}

/// Calls `$kernel::<.., N>` with N of 1 to 4 queries.
macro_rules! with_queries {
    ($n:expr, $kernel:ident[$($generic:tt),*]($($argument:expr),* $(,)?)) => {
        match $n {
            1 => $kernel::<$($generic,)* 1>($($argument),*),
            2 => $kernel::<$($generic,)* 2>($($argument),*),
            3 => $kernel::<$($generic,)* 3>($($argument),*),
            _ => $kernel::<$($generic,)* 4>($($argument),*),
        }
    };
}

/// The tile's products of queries and keys: `scores` `[T, H, TILE]`.
///
/// # Safety
/// As for [`body`].
#[inline(always)]
unsafe fn products<V: Vector, E: Operand, const X: usize>(
    scores: &mut [f32],
    x: &Decode<E>,
    (first, t): (usize, usize),
    places: &[usize],
) {
    let Sizes { h, d, .. } = x.sizes;
    let c = h * d;
    for j in (0..places.len()).step_by(KEYS) {
        let keys: [usize; KEYS] = std::array::from_fn(|i| places[(j + i).min(places.len() - 1)]);
        for head in 0..h {
            for place in keys {
                for at in (0..d).step_by(LINE / size_of::<E>()) {
                    // The keys that follow, and the values that these keys will want.
                    prefetch(x.k.as_ptr().wrapping_add(place + KEYS * c + head * d + at));
                    prefetch(x.v.as_ptr().wrapping_add(place + head * d + at));
                }
            }
            let rows = keys.map(|place| &x.k[place + head * d..][..d]);
            for i in (0..t).step_by(X) {
                let q = &x.q[(first + i) * c + head * d..];
                let scores = &mut scores[(i * h + head) * TILE + j..];
                // SAFETY: the caller's contract; `t - i` queries follow.
                unsafe { with_queries!((t - i).min(X), dots[V, E](scores, h * TILE, q, c, rows)) }
            }
        }
    }
}

/// `N` queries, `stride` apart, against the keys: query i's scores start at `i * step`.
///
/// # Safety
/// `q` must hold the queries, and the instructions of `V` must exist.
#[inline(always)]
unsafe fn dots<V: Vector, E: Operand, const N: usize>(
    scores: &mut [f32],
    step: usize,
    q: &[f32],
    stride: usize,
    keys: [&[E]; KEYS],
) {
    let d = keys[0].len();
    let whole = d - d % V::LANES;
    // SAFETY: `p + LANES <= d` bounds every load.
    unsafe {
        let mut sums = [[V::splat(0.0); KEYS]; N];
        for p in (0..whole).step_by(V::LANES) {
            let mut columns = [V::splat(0.0); KEYS];
            for (column, key) in columns.iter_mut().zip(&keys) {
                *column = E::load(key.as_ptr().add(p));
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let q = V::load(q.as_ptr().add(i * stride + p));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = q.fma(column, *sum);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, (sum, key)) in sums.into_iter().zip(&keys).enumerate() {
                let tail: f32 = (whole..d).map(|p| q[i * stride + p] * key[p].wide()).sum();
                scores[i * step + j] = sum.sum() + tail;
            }
        }
    }
}

/// Adds the tile's values, weighted by `scores`, to `o` `[T, H, D]`.
///
/// # Safety
/// As for [`body`].
#[inline(always)]
unsafe fn values<V: Vector, E: Operand, const X: usize>(
    o: &mut [f32],
    scores: &[f32],
    x: &Decode<E>,
    t: usize,
    places: &[usize],
) {
    let Sizes { h, d, .. } = x.sizes;
    let width = VALUES * V::LANES;
    for head in 0..h {
        for i in (0..t).step_by(X) {
            let weights = &scores[(i * h + head) * TILE..];
            let wide = d - d % width;
            let whole = d - d % V::LANES;
            for p in (0..wide).step_by(width) {
                let o = &mut o[(i * h + head) * d + p..];
                let v = &x.v[head * d + p..];
                // SAFETY: `p + width <= d` bounds every load and store.
                unsafe {
                    with_queries!((t - i).min(X), add[V, E, VALUES](o, h * d, weights, h * TILE, v, places))
                }
            }
            for n in 0..(t - i).min(X) {
                let (o, weights) = (&mut o[((i + n) * h + head) * d..][..d], &weights[n * h * TILE..]);
                for p in (wide..whole).step_by(V::LANES) {
                    // SAFETY: `p + LANES <= d` bounds every load and store.
                    unsafe { add::<V, E, 1, 1>(&mut o[p..], 0, weights, 0, &x.v[head * d + p..], places) };
                }
                for (p, sum) in o.iter_mut().enumerate().skip(whole) {
                    for (weight, place) in weights.iter().zip(places) {
                        *sum += weight * x.v[place + head * d + p].wide();
                    }
                }
            }
        }
    }
}

/// `o_n[..] += sum over j of weights_n[j] * v[places[j] ..]` for `N` queries and `C` vectors.
///
/// # Safety
/// `C` vectors must follow every place, and the start of every query in o; the instructions of `V` must exist.
#[inline(always)]
unsafe fn add<V: Vector, E: Operand, const C: usize, const N: usize>(
    o: &mut [f32],
    o_stride: usize,
    weights: &[f32],
    step: usize,
    v: &[E],
    places: &[usize],
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut sums = [[V::splat(0.0); C]; N];
        for (n, sums) in sums.iter_mut().enumerate() {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(o.as_ptr().add(n * o_stride + i * V::LANES));
            }
        }
        for (j, place) in places.iter().enumerate() {
            let mut columns = [V::splat(0.0); C];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = E::load(v.as_ptr().add(place + i * V::LANES));
            }
            for (n, sums) in sums.iter_mut().enumerate() {
                let weight = V::splat(*weights.get_unchecked(n * step + j));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = weight.fma(column, *sum);
                }
            }
        }
        for (n, sums) in sums.into_iter().enumerate() {
            for (i, sum) in sums.into_iter().enumerate() {
                sum.store(o.as_mut_ptr().add(n * o_stride + i * V::LANES));
            }
        }
    }
}
