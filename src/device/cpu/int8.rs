//! `x Wᵀ` in 8 bits: rows of both with a scale each, products summed as integers.
//!
//! A value is q times the scale of its row, q from -127 to 127, so that zero stays zero. W is rounded once; a row of x is
//! rounded when it is multiplied, by its own largest value. Sums of integers are exact, and all that is done in f32 is
//! done in one order without fused multiply-adds: every way of computing gives the same bits, on any number of threads.
#[cfg(target_arch = "x86_64")]
mod block;
#[cfg(target_arch = "x86_64")]
mod blocks;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
mod words;

#[cfg(target_arch = "x86_64")]
use super::features::{Feature, has};
use super::gemm::{Size, Store};
use super::scratch::with_scratch;
use super::simd::multiversion;
#[cfg(target_arch = "x86_64")]
use super::simd::{Level, level};
use super::skinny::Shared;
use rayon::prelude::*;

/// The largest q.
const MOST: f32 = 127.0;
/// Rows of W whose sums with a row of x are made side by side.
const W_ROWS: usize = 4;
/// Rows of x that a task multiplies with its rows of W: they stay in the second-level cache.
const X_ROWS: usize = 96;
/// Bytes of W that one task reads, about.
const TASK_BYTES: usize = 128 << 10;
/// The longest rows whose sums an i32 holds, whatever they are.
const LONGEST: usize = 1 << 17;
/// Values that a thread rounds at a time, about.
const ROUND: usize = 1 << 15;

/// Rows in 8 bits: `values[i * k + p] * scales[i]`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [i8],
    pub scales: &'a [f32],
}

/// Rows of x, and the sum of each row's values.
struct Rounded<'a> {
    rows: Rows<'a>,
    sums: &'a [i32],
}

/// The sums of some rows of x with a group of rows of W: `out[i * W_ROWS + j] = x_i . w_j`.
type Sums = unsafe fn(out: &mut [i32], x: &[i8], sums: &[i32], w: [&[i8]; W_ROWS]);

/// How sums are computed here.
fn sums() -> (&'static str, Sums) {
    #[cfg(target_arch = "x86_64")]
    match level() {
        _ if has(Feature::Avx512Vnni) => return ("VNNI (AVX-512)", vnni::sums),
        Level::Avx512 => return ("widened (AVX-512)", words::by_avx512),
        Level::Avx2 => return ("widened (AVX2)", words::by_avx2),
        Level::Portable => {}
    }
    ("widened", widened)
}

/// What computes products in 8 bits here.
pub fn way() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if has(Feature::AmxInt8) {
            return match (has(Feature::AmxTwin), has(Feature::Avx512Vnni)) {
                (true, _) => "tiles of bytes (AMX's twin)",
                (false, true) => "tiles of bytes (AMX), few rows by VNNI",
                (false, false) => "tiles of bytes (AMX), few rows widened",
            };
        }
    }
    sums().0
}

/// Rounds rows of `x` to 8 bits: half a step at most, a step being the row's scale. A row that is not finite has the
/// scale NaN; one whose scale would be below the smallest normal number is zero.
pub fn quantise(values: &mut [i8], scales: &mut [f32], x: &[f32]) {
    round(values, scales, &mut vec![0; scales.len()], x);
}

fn round(values: &mut [i8], scales: &mut [f32], sums: &mut [i32], x: &[f32]) {
    let rows = scales.len();
    assert!(values.len() == x.len() && sums.len() == rows, "int8: rows do not fit");
    if x.is_empty() {
        return scales.fill(0.0);
    }
    let k = x.len() / rows;
    let one = |values: &mut [i8], scale: &mut f32, sum: &mut i32, x: &[f32]| {
        (*scale, *sum) = round_row(values, x);
    };
    if x.len() <= ROUND {
        let rows = values.chunks_mut(k).zip(scales).zip(sums).zip(x.chunks(k));
        return rows.for_each(|(((values, scale), sum), x)| one(values, scale, sum, x));
    }
    let rows = (values.par_chunks_mut(k), scales, sums, x.par_chunks(k)).into_par_iter();
    let rows = rows.with_min_len((ROUND / k).max(1));
    rows.for_each(|(values, scale, sum, x)| one(values, scale, sum, x));
}

multiversion! {
    /// The scale of a row, and the sum of its rounded values.
    fn round_row(values: &mut [i8], x: &[f32]) -> (f32, i32) {
        // Without its sign a number is as large as its bits say. In lanes, which vectorise; the largest of some numbers is
        // the same in every order.
        let magnitude = |x: f32| x.abs().to_bits();
        let mut lanes = [0u32; 64];
        let (chunks, rest) = x.as_chunks::<64>();
        for chunk in chunks {
            lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane = magnitude(x).max(*lane));
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, &x)| *lane = magnitude(x).max(*lane));
        let largest = f32::from_bits(lanes.into_iter().fold(0, u32::max));
        let (scale, finite) = (largest / MOST, largest.is_finite());
        if !finite || scale < f32::MIN_POSITIVE {
            values.fill(0);
            return (if finite { 0.0 } else { f32::NAN }, 0);
        }
        let steps = 1.0 / scale;
        // Added to a small number, it leaves the nearest integer in the lower bits, ties to even.
        let shift = 1.5 * (1u32 << 23) as f32;
        let mut sum = 0;
        for (value, x) in values.iter_mut().zip(x) {
            let nearest = (x * steps + shift).to_bits() as i32 - shift.to_bits() as i32;
            *value = nearest as i8;
            sum += nearest;
        }
        (scale, sum)
    }
}

/// By products of widened values, as the compiler makes them of the baseline's instructions.
fn widened(out: &mut [i32], x: &[i8], _: &[i32], w: [&[i8]; W_ROWS]) {
    for (out, x) in out.chunks_mut(W_ROWS).zip(x.chunks(w[0].len())) {
        for (out, w) in out.iter_mut().zip(w) {
            *out = x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum();
        }
    }
}

/// C `[m, n]`, whose row `i` starts at `i * c_stride`, becomes `x Wᵀ + bias` for x `[m, k]` and W `[n, k]`.
///
/// Panics when an operand does not have the size that it should.
pub fn product(c: &mut [f32], c_stride: usize, x: &[f32], w: Rows, bias: &[f32], size: Size) {
    let Size { m, n, k } = size;
    assert!(x.len() == m * k && w.values.len() == n * k && w.scales.len() == n, "int8: {size:?}");
    assert!(bias.is_empty() || bias.len() == n, "int8: the bias is not [{n}]");
    assert!(k > 0 && k <= LONGEST, "int8: rows of {k}");
    if m == 0 || n == 0 {
        return;
    }
    assert!(c_stride >= n && c.len() >= (m - 1) * c_stride + n, "int8: C is too short for {size:?}");
    let words = (m * k).div_ceil(size_of::<f32>());
    with_scratch(words + 2 * m, |scratch| {
        let (values, rest) = scratch.split_at_mut(words);
        let (scales, sums) = rest.split_at_mut(m);
        let values = &mut bytemuck::cast_slice_mut::<f32, i8>(values)[..m * k];
        let sums = bytemuck::cast_slice_mut(sums);
        round(values, scales, sums, x);
        let x = Rounded { rows: Rows { values, scales }, sums };
        let whole = in_blocks(c, c_stride, &x, w, bias, size);
        if whole < n {
            let rest = Rows { values: &w.values[whole * k..], scales: &w.scales[whole..] };
            let bias = bias.get(whole..).unwrap_or(&[]);
            multiply(&mut c[whole..], c_stride, x, rest, bias, Size { n: n - whole, ..size });
        }
    });
}

/// Multiplies what makes whole blocks; the first row of W that is left, and its column of C.
fn in_blocks(c: &mut [f32], c_stride: usize, x: &Rounded, w: Rows, bias: &[f32], size: Size) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let n = blocks::served(size);
        if n > 0 {
            let bias = bias.get(..n).unwrap_or(&[]);
            // SAFETY: blocks serve only where `features` reports the instructions of their way.
            unsafe { blocks::multiply(blocks::way(), c, c_stride, x, w, bias, Size { n, ..size }) };
        }
        n
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (c, c_stride, x, w, bias, size);
        0
    }
}

/// Shares C out to the threads by rows of W, and where x has many rows by those too; the caller checked the sizes.
fn multiply(c: &mut [f32], c_stride: usize, x: Rounded, w: Rows, bias: &[f32], size: Size) {
    let Size { m, n, k } = size;
    let (_, sums) = sums();
    let c = &Shared(c.as_mut_ptr());
    let wide = (TASK_BYTES / k).max(W_ROWS).next_multiple_of(W_ROWS);
    let (down, across) = (m.div_ceil(X_ROWS), n.div_ceil(wide));
    let task = |index: usize| {
        let (row, column) = (index / across * X_ROWS, index % across * wide);
        let (rows, last) = (X_ROWS.min(m - row), n.min(column + wide));
        let values = &x.rows.values[row * k..][..rows * k];
        let mut out = [0; X_ROWS * W_ROWS];
        for first in (column..last).step_by(W_ROWS) {
            // A ragged last group repeats its last row, and drops the copies.
            let at = |j: usize| (first + j).min(n - 1);
            let group = std::array::from_fn(|j| &w.values[at(j) * k..][..k]);
            // SAFETY: `sums` gives only what the processor was found to have; all rows are k long.
            unsafe { sums(&mut out[..rows * W_ROWS], values, &x.sums[row..][..rows], group) };
            let scales: [f32; W_ROWS] = std::array::from_fn(|j| w.scales[at(j)]);
            let biases: [f32; W_ROWS] = std::array::from_fn(|j| bias.get(at(j)).copied().unwrap_or(0.0));
            let columns = W_ROWS.min(last - first);
            for (i, sums) in (row..row + rows).zip(out.chunks_exact(W_ROWS)) {
                let to = i * c_stride + first;
                let line: [f32; W_ROWS] =
                    std::array::from_fn(|j| sums[j] as f32 * x.rows.scales[i] * scales[j] + biases[j]);
                // SAFETY: the row and as many columns are inside C, and belong to this task alone.
                unsafe {
                    match columns {
                        W_ROWS => c.write_line(to, &line),
                        _ => (0..columns).for_each(|j| c.write(to + j, line[j], Store::Assign)),
                    }
                }
            }
        }
    };
    match down * across {
        1 => task(0),
        tasks => (0..tasks).into_par_iter().for_each(task),
    }
}

/// Writes what the rows stand for, to as many numbers.
pub fn widen(to: &mut [f32], rows: Rows) {
    let k = (to.len() / rows.scales.len().max(1)).max(1);
    let row = |((to, values), scale): ((&mut [f32], &[i8]), &f32)| {
        to.iter_mut().zip(values).for_each(|(to, &value)| *to = f32::from(value) * scale);
    };
    to.par_chunks_mut(k).zip(rows.values.par_chunks(k)).zip(rows.scales).for_each(row);
}
