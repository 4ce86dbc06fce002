//! `x Wᵀ` for a few rows of x, as in decoding: W is read once, in place, at the speed of memory, and in bf16
//! as it is.

mod bf16;

pub use bf16::gemm_bf16;

use rayon::prelude::*;

use super::gemm::{Matrix, Size, Store};
use super::microkernel::{Baseline, Vector};
use super::narrow::Stored;
#[cfg(target_arch = "x86_64")]
use super::simd::Level;
use super::simd::level;

/// Most rows of x this path takes; from there on packing W pays.
const MOST_ROWS: usize = 16;
/// Rows of W and of x whose dot products run side by side.
const W_ROWS: usize = 4;
const X_ROWS: usize = 4;
/// Bytes of W that one task reads, about.
const TASK_BYTES: usize = 256 << 10;

/// Whether this path is made for such sizes.
pub fn is_skinny(m: usize, k: usize) -> bool {
    m <= MOST_ROWS && k >= 64
}

/// Whether the operands have the form this path is made for.
pub fn serves(a: &Matrix, b: &Matrix, size: Size) -> bool {
    is_skinny(size.m, size.k) && a.column_stride == 1 && b.row_stride == 1
}

/// How weights are stored.
pub(super) trait Weight: Stored {
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load<V: Vector>(from: *const Self) -> V;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const f32) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load(from) }
    }
}

impl Weight for half::bf16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const half::bf16) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load_bf16(from) }
    }
}

/// W `[n, k]`: rows of weights, `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, E> {
    pub data: &'a [E],
    pub stride: usize,
}

impl<'a, E> Rows<'a, E> {
    /// The group of rows from `first` on; a ragged last one repeats its last row, and the caller drops the copies.
    fn group(&self, first: usize, size: Size) -> [&'a [E]; W_ROWS] {
        std::array::from_fn(|j| {
            let start = (first + j).min(size.n - 1) * self.stride;
            &self.data[start..start + size.k]
        })
    }
}

/// A group of rows of W against all rows of x: `out[i * W_ROWS + j] = x_i . w_j`.
type Dots<E> =
    unsafe fn(out: &mut [f32; MOST_ROWS * W_ROWS], x: &Matrix, w: &Rows<E>, first: usize, size: Size);

fn dots<E: Weight>() -> Dots<E> {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => dots_avx512::<E>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => dots_avx2::<E>,
        _ => dots_baseline::<E>,
    }
}

/// # Safety
/// AVX-512 must have been detected.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn dots_avx512<E: Weight>(
    out: &mut [f32; MOST_ROWS * W_ROWS],
    x: &Matrix,
    w: &Rows<E>,
    first: usize,
    size: Size,
) {
    // SAFETY: the caller detected the instructions.
    unsafe { rows::<std::arch::x86_64::__m512, E>(out, x, w, first, size) }
}

/// # Safety
/// AVX2 and FMA must have been detected.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn dots_avx2<E: Weight>(
    out: &mut [f32; MOST_ROWS * W_ROWS],
    x: &Matrix,
    w: &Rows<E>,
    first: usize,
    size: Size,
) {
    // SAFETY: the caller detected the instructions.
    unsafe { rows::<std::arch::x86_64::__m256, E>(out, x, w, first, size) }
}

/// # Safety
/// None beyond the types; unsafe only to share a signature.
unsafe fn dots_baseline<E: Weight>(
    out: &mut [f32; MOST_ROWS * W_ROWS],
    x: &Matrix,
    w: &Rows<E>,
    first: usize,
    size: Size,
) {
    // SAFETY: the baseline needs no detection.
    unsafe { rows::<Baseline, E>(out, x, w, first, size) }
}

/// # Safety
/// The instructions of `V` must exist.
#[inline(always)]
unsafe fn rows<V: Vector, E: Weight>(
    out: &mut [f32; MOST_ROWS * W_ROWS],
    x: &Matrix,
    w: &Rows<E>,
    first: usize,
    size: Size,
) {
    let w_rows = w.group(first, size);
    let x_row = |i: usize| &x.data[i * x.row_stride..i * x.row_stride + size.k];
    // The first rows of x walk W in the order of memory, which the prefetcher of the processor
    // follows; the others find W in the first-level cache.
    // SAFETY: the caller's contract; every row is `k` long.
    unsafe {
        for (j, w) in w_rows.into_iter().enumerate() {
            match size.m {
                1 => line::<V, E, 1, 4>(out, j, [x_row(0)], w),
                2 => line::<V, E, 2, 2>(out, j, [x_row(0), x_row(1)], w),
                3 => line::<V, E, 3, 2>(out, j, [x_row(0), x_row(1), x_row(2)], w),
                _ => line::<V, E, 4, 3>(out, j, [x_row(0), x_row(1), x_row(2), x_row(3)], w),
            }
        }
        for i in (X_ROWS..size.m).step_by(X_ROWS) {
            let out = &mut out[i * W_ROWS..];
            match size.m - i {
                1 => block::<V, E, 1>(out, [x_row(i)], w_rows),
                2 => block::<V, E, 2>(out, [x_row(i), x_row(i + 1)], w_rows),
                3 => block::<V, E, 3>(out, [x_row(i), x_row(i + 1), x_row(i + 2)], w_rows),
                _ => {
                    let x = [x_row(i), x_row(i + 1), x_row(i + 2), x_row(i + 3)];
                    block::<V, E, X_ROWS>(out, x, w_rows);
                }
            }
        }
    }
}

/// One row of W against `X` rows of x, with `U` partial sums each.
///
/// # Safety
/// Every row must be as long as `w`, and the instructions of `V` must exist.
#[inline(always)]
unsafe fn line<V: Vector, E: Weight, const X: usize, const U: usize>(
    out: &mut [f32],
    j: usize,
    x: [&[f32]; X],
    w: &[E],
) {
    let k = w.len();
    let (step, whole) = (U * V::LANES, k - k % V::LANES);
    // SAFETY: `p + LANES <= k` bounds every load.
    unsafe {
        let mut acc = [[V::splat(0.0); U]; X];
        let mut p = 0;
        while p + step <= whole {
            for u in 0..U {
                let at = p + u * V::LANES;
                let column: V = E::load(w.as_ptr().add(at));
                for (sums, x) in acc.iter_mut().zip(&x) {
                    sums[u] = V::load(x.as_ptr().add(at)).fma(column, sums[u]);
                }
            }
            p += step;
        }
        while p < whole {
            let column: V = E::load(w.as_ptr().add(p));
            for (sums, x) in acc.iter_mut().zip(&x) {
                sums[0] = V::load(x.as_ptr().add(p)).fma(column, sums[0]);
            }
            p += V::LANES;
        }
        for (i, sums) in acc.into_iter().enumerate() {
            let mut sum: f32 = (whole..k).map(|p| x[i][p] * w[p].wide()).sum();
            for partial in sums {
                sum += partial.sum();
            }
            out[i * W_ROWS + j] = sum;
        }
    }
}

/// Four rows of W against `X` rows of x.
///
/// # Safety
/// All rows must be equally long, and the instructions of `V` must exist.
#[inline(always)]
unsafe fn block<V: Vector, E: Weight, const X: usize>(out: &mut [f32], x: [&[f32]; X], w: [&[E]; W_ROWS]) {
    let k = w[0].len();
    let whole = k - k % V::LANES;
    // SAFETY: `p + LANES <= k` bounds every load.
    unsafe {
        let mut acc = [[V::splat(0.0); W_ROWS]; X];
        for p in (0..whole).step_by(V::LANES) {
            let columns: [V; W_ROWS] = load_all(&w, p);
            for (row, x) in acc.iter_mut().zip(&x) {
                let x = V::load(x.as_ptr().add(p));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = x.fma(column, *sum);
                }
            }
        }
        for (i, row) in acc.into_iter().enumerate() {
            for (j, sum) in row.into_iter().enumerate() {
                let tail: f32 = (whole..k).map(|p| x[i][p] * w[j][p].wide()).sum();
                out[i * W_ROWS + j] = sum.sum() + tail;
            }
        }
    }
}

/// # Safety
/// Every row must hold `LANES` floats from `p` on, and the instructions of `V` must exist.
#[inline(always)]
unsafe fn load_all<V: Vector, E: Weight>(rows: &[&[E]; W_ROWS], p: usize) -> [V; W_ROWS] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut loaded = [V::splat(0.0); W_ROWS];
        for (register, row) in loaded.iter_mut().zip(rows) {
            *register = E::load(row.as_ptr().add(p));
        }
        loaded
    }
}

/// C shared by tasks that each write their own columns.
struct Shared(*mut f32);
// SAFETY: the columns of different tasks do not overlap.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// `offset` must be inside C, and no other task may touch it.
    unsafe fn write(&self, offset: usize, value: f32, store: Store) {
        // SAFETY: the caller's contract.
        let to = unsafe { &mut *self.0.add(offset) };
        *to = if store == Store::Add { *to + value } else { value };
    }
}

/// The product for operands that [`serves`] accepts; the caller checked the sizes.
pub(super) fn gemm<E: Weight>(
    c: &mut [f32],
    c_stride: usize,
    x: Matrix,
    w: Rows<E>,
    size: Size,
    alpha: f32,
    store: Store,
) {
    let dots = dots::<E>();
    // SAFETY: `dots()` returned code for instructions that were detected.
    let group = |first, out: &mut _| unsafe { dots(out, &x, &w, first, size) };
    share_out(c, c_stride, size, size_of::<E>(), |value| alpha * value, store, group);
}

/// Has every group of rows of W computed, and stores what it gives.
fn share_out(
    c: &mut [f32],
    c_stride: usize,
    size: Size,
    bytes: usize,
    scaled: impl Fn(f32) -> f32 + Sync,
    store: Store,
    dots: impl Fn(usize, &mut [f32; MOST_ROWS * W_ROWS]) + Sync,
) {
    let c = Shared(c.as_mut_ptr());
    let c = &c;
    let group = (TASK_BYTES / bytes / size.k).max(W_ROWS).next_multiple_of(W_ROWS);
    let task = |index: usize| {
        let last = ((index + 1) * group).min(size.n);
        for first in (index * group..last).step_by(W_ROWS) {
            let mut out = [0.0; MOST_ROWS * W_ROWS];
            dots(first, &mut out);
            for i in 0..size.m {
                for j in first..(first + W_ROWS).min(last) {
                    let value = scaled(out[i * W_ROWS + j - first]);
                    // SAFETY: i < m and j < n, and column j belongs to this task.
                    unsafe { c.write(i * c_stride + j, value, store) };
                }
            }
        }
    };
    let tasks = size.n.div_ceil(group);
    if tasks == 1 {
        task(0);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}
