//! `x Wᵀ` for a few rows of x, as in decoding: W is read once, in place, at the speed of memory, and in bf16
//! as it is.
//!
//! A few rows of W at a time meet all rows of x, while the next few are fetched into the second-level cache:
//! fetched into the first, they would wait for its few open misses and the products with them.

mod bf16;

pub(super) use bf16::gemm_bf16;

use rayon::prelude::*;

use super::gemm::{Matrix, Size, Store};
use super::microkernel::{Baseline, Operand, Vector, prefetch};
use super::simd::{Level, by_level, level};

/// Most rows of x this path takes; from there on packing W pays.
const MOST_ROWS: usize = 16;
/// Most rows of W and of x whose dot products run side by side.
const W_ROWS: usize = 4;
const X_ROWS: usize = 8;
/// Bytes of W that one task reads, about.
const TASK_BYTES: usize = 256 << 10;

/// Whether this path is made for such sizes.
pub fn is_skinny(m: usize, k: usize) -> bool {
    m <= MOST_ROWS && k >= 64
}

/// Whether the operands have the form this path is made for.
pub fn serves<E>(a: &Matrix<E>, b: &Matrix<E>, size: Size) -> bool {
    is_skinny(size.m, size.k) && a.column_stride == 1 && b.row_stride == 1
}

/// W `[n, k]`: rows of weights, `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, E> {
    pub data: &'a [E],
    pub stride: usize,
}

impl<'a, E> Rows<'a, E> {
    /// `W` rows from `first` on; a ragged last group repeats its last row, and the caller drops the copies.
    fn group<const W: usize>(&self, first: usize, size: Size) -> [&'a [E]; W] {
        std::array::from_fn(|j| {
            let start = (first + j).min(size.n - 1) * self.stride;
            &self.data[start..start + size.k]
        })
    }
}

/// How m rows of x are shared out: how many at a time, and with how many rows of W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    x: usize,
    w: usize,
}

impl Tile {
    /// The least passes over m rows whose sums stay in registers, beside a row of W each and one of x.
    fn new(m: usize, level: Level) -> Tile {
        let most = |w: usize| ((level.registers() - w - 1) / w).min(X_ROWS);
        let passes = m.div_ceil(most(W_ROWS - 1));
        let x = m.div_ceil(passes);
        Tile { x, w: if x <= most(W_ROWS) { W_ROWS } else { W_ROWS - 1 } }
    }
}

/// Calls `$kernel::<.., X, W>` with the X and W of a tile.
macro_rules! with_tile {
    ($tile:expr, $kernel:ident[$($generic:ty),*]($($argument:expr),* $(,)?)) => {
        match ($tile.w, $tile.x) {
            (4, 1) => $kernel::<$($generic,)* 1, 4>($($argument),*),
            (4, 2) => $kernel::<$($generic,)* 2, 4>($($argument),*),
            (4, 3) => $kernel::<$($generic,)* 3, 4>($($argument),*),
            (4, 4) => $kernel::<$($generic,)* 4, 4>($($argument),*),
            (4, 5) => $kernel::<$($generic,)* 5, 4>($($argument),*),
            (4, _) => $kernel::<$($generic,)* 6, 4>($($argument),*),
            (_, 1) => $kernel::<$($generic,)* 1, 3>($($argument),*),
            (_, 2) => $kernel::<$($generic,)* 2, 3>($($argument),*),
            (_, 3) => $kernel::<$($generic,)* 3, 3>($($argument),*),
            (_, 4) => $kernel::<$($generic,)* 4, 3>($($argument),*),
            (_, 5) => $kernel::<$($generic,)* 5, 3>($($argument),*),
            (_, 6) => $kernel::<$($generic,)* 6, 3>($($argument),*),
            (_, 7) => $kernel::<$($generic,)* 7, 3>($($argument),*),
            _ => $kernel::<$($generic,)* 8, 3>($($argument),*),
        }
    };
}
use with_tile;

by_level! {
    /// A group of rows of W against all rows of x: `out[i * W_ROWS + j] = x_i . w_j`.
    fn dots[E: Operand](
        out: &mut [f32; MOST_ROWS * W_ROWS],
        x: &Matrix,
        w: &Rows<E>,
        first: usize,
        size: Size,
    ) {
        Avx512 => rows::<__m512, E>(out, x, w, first, size),
        Avx2 => rows::<__m256, E>(out, x, w, first, size),
        Portable => rows::<Baseline, E>(out, x, w, first, size),
    }
}

/// # Safety
/// The instructions of `V` must exist.
#[inline(always)]
unsafe fn rows<V: Vector, E: Operand>(
    out: &mut [f32; MOST_ROWS * W_ROWS],
    x: &Matrix,
    w: &Rows<E>,
    first: usize,
    size: Size,
) {
    let tile = Tile::new(size.m, V::LEVEL);
    for i in (0..size.m).step_by(tile.x) {
        let (out, rows) = (&mut out[i * W_ROWS..], &x.data[i * x.row_stride..]);
        let part = Tile { x: tile.x.min(size.m - i), ..tile };
        // SAFETY: the caller's contract; every row is `k` long.
        unsafe { with_tile!(part, block[V, E](out, rows, x.row_stride, w, first, size, i == 0)) }
    }
}

/// `W` rows of W against `X` rows of x; where `ahead`, the next `W` rows are fetched meanwhile.
///
/// # Safety
/// x must hold `X` rows of k, and the instructions of `V` must exist.
#[inline(always)]
unsafe fn block<V: Vector, E: Operand, const X: usize, const W: usize>(
    out: &mut [f32],
    x: &[f32],
    x_stride: usize,
    w: &Rows<E>,
    first: usize,
    size: Size,
    ahead: bool,
) {
    let k = size.k;
    let whole = k - k % V::LANES;
    let rows: [&[E]; W] = w.group(first, size);
    let next = if ahead { W * w.stride } else { 0 };
    // SAFETY: `p + LANES <= k` bounds every load.
    unsafe {
        let mut acc = [[V::splat(0.0); W]; X];
        for p in (0..whole).step_by(V::LANES) {
            let mut columns = [V::splat(0.0); W];
            for (column, row) in columns.iter_mut().zip(&rows) {
                *column = E::load(row.as_ptr().add(p));
                if ahead {
                    prefetch(row.as_ptr().wrapping_add(p + next));
                }
            }
            for (i, sums) in acc.iter_mut().enumerate() {
                let x = V::load(x.as_ptr().add(i * x_stride + p));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = x.fma(column, *sum);
                }
            }
        }
        for (i, sums) in acc.into_iter().enumerate() {
            for (j, (sum, row)) in sums.into_iter().zip(&rows).enumerate() {
                let tail: f32 = (whole..k).map(|p| x[i * x_stride + p] * row[p].wide()).sum();
                out[i * W_ROWS + j] = sum.sum() + tail;
            }
        }
    }
}

/// C shared by tasks that each write their own part.
pub(super) struct Shared(pub *mut f32);
// SAFETY: the parts of different tasks do not overlap.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// `offset` must be inside C, and no other task may touch it.
    pub unsafe fn write(&self, offset: usize, value: f32, store: Store) {
        // SAFETY: the caller's contract.
        let to = unsafe { &mut *self.0.add(offset) };
        *to = if store == Store::Add { *to + value } else { value };
    }

    /// # Safety
    /// The values from `offset` on must be inside C, and no other task may touch them.
    #[inline(always)]
    pub unsafe fn write_line<const N: usize>(&self, offset: usize, values: &[f32; N]) {
        // SAFETY: the caller's contract.
        unsafe { self.0.add(offset).cast::<[f32; N]>().write_unaligned(*values) };
    }
}

/// The product for operands that [`serves`] accepts; the caller checked the sizes.
pub(super) fn gemm<E: Operand>(
    c: &mut [f32],
    c_stride: usize,
    x: Matrix,
    w: Rows<E>,
    size: Size,
    alpha: f32,
    store: Store,
) {
    let dots = dots::<E>(level());
    // SAFETY: `level` reports only instructions that were detected.
    let group = |first, out: &mut _| unsafe { dots(out, &x, &w, first, size) };
    let width = Tile::new(size.m, level()).w;
    share_out(c, c_stride, size, (width, size_of::<E>()), |value| alpha * value, store, group);
}

/// Has every group of `width` rows of W computed, each number of `bytes`, and stores what it gives.
fn share_out(
    c: &mut [f32],
    c_stride: usize,
    size: Size,
    (width, bytes): (usize, usize),
    scaled: impl Fn(f32) -> f32 + Sync,
    store: Store,
    dots: impl Fn(usize, &mut [f32; MOST_ROWS * W_ROWS]) + Sync,
) {
    let c = Shared(c.as_mut_ptr());
    let c = &c;
    let group = (TASK_BYTES / bytes / size.k).max(width).next_multiple_of(width);
    let task = |index: usize| {
        let last = ((index + 1) * group).min(size.n);
        for first in (index * group..last).step_by(width) {
            let mut out = [0.0; MOST_ROWS * W_ROWS];
            dots(first, &mut out);
            for i in 0..size.m {
                for j in first..(first + width).min(last) {
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
