//! `C = alpha A B (+ C)` in f32: packed panels, a register tile, all threads (Goto and van de Geijn 2008).
//!
//! Threads share out tiles of C and never a sum over k, so the bits do not depend on their number.

mod block;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use super::pack::{PanelSource, pack_panel};
use super::scratch::with_scratch;
use super::skinny;
use block::{Kernel, Tile, kernel};

/// A matrix operand: element `(i, j)` at `i * row_stride + j * column_stride` of `data`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major with `columns` elements a row.
    pub fn rows(data: &'a [f32], columns: usize) -> Self {
        Matrix { data, row_stride: columns, column_stride: 1 }
    }

    /// The transpose of a row-major matrix with `columns` elements a row.
    pub fn transposed(data: &'a [f32], columns: usize) -> Self {
        Matrix { data, row_stride: 1, column_stride: columns }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.data.len()
    }
}

/// Sizes of a product: C `[m, n]`, A `[m, k]`, B `[k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// What happens to the values already in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// They are never read; they may be NaN.
    Assign,
    /// The result is added to them.
    Add,
}

/// Depth of a packed panel: one of A, 8 rows at most, stays in the first-level cache.
const DEPTH: usize = 768;
/// Rows and columns packed at a time, which bound the packing buffers.
const ROWS: usize = 2048;
const COLUMNS: usize = 3072;
/// Below this many multiply-adds, starting threads costs more than it saves.
const SERIAL: usize = 1 << 19;
/// Rows and panels of the largest tile of C that one task computes.
const TASK_ROWS: usize = 256;
const TASK_PANELS: usize = 12;

/// A pointer to C that tasks share; each writes only its own tile.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: the tiles of different tasks do not overlap.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// `C = alpha A B`, or `C += alpha A B`; row `i` of C starts at `i * c_stride`.
///
/// Panics when an operand is too short for the sizes.
pub fn gemm(c: &mut [f32], c_stride: usize, a: Matrix, b: Matrix, size: Size, alpha: f32, store: Store) {
    let Size { m, n, k } = size;
    let out = Matrix { data: c, row_stride: c_stride, column_stride: 1 };
    assert!(out.holds(m, n) && (m <= 1 || c_stride >= n), "gemm: C is too short for {size:?}");
    assert!(a.holds(m, k), "gemm: A is too short for {size:?}");
    assert!(b.holds(k, n), "gemm: B is too short for {size:?}");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if store == Store::Assign {
            (0..m).for_each(|i| c[i * c_stride..i * c_stride + n].fill(0.0));
        }
        return;
    }
    if skinny::serves(&a, &b, size) {
        let w = skinny::Rows { data: b.data, stride: b.column_stride };
        return skinny::gemm(c, c_stride, a, w, size, alpha, store);
    }
    let kernel = kernel();
    let depth = k.div_ceil(k.div_ceil(DEPTH));
    let a_len = ROWS.min(m.next_multiple_of(kernel.mr)) * depth;
    let b_len = COLUMNS.min(n.next_multiple_of(kernel.nr)) * depth;
    let c = Shared(c.as_mut_ptr());
    with_scratch(a_len + b_len, |scratch| {
        let (packed_a, packed_b) = scratch.split_at_mut(a_len);
        for j in (0..n).step_by(COLUMNS) {
            let columns = COLUMNS.min(n - j);
            for p in (0..k).step_by(depth) {
                let depth = depth.min(k - p);
                let store = if p == 0 { store } else { Store::Add };
                for i in (0..m).step_by(ROWS) {
                    let rows = ROWS.min(m - i);
                    let left = PanelSource {
                        data: &a.data[i * a.row_stride + p * a.column_stride..],
                        across: a.row_stride,
                        along: a.column_stride,
                        width: rows,
                        depth,
                    };
                    let right = PanelSource {
                        data: &b.data[p * b.row_stride + j * b.column_stride..],
                        across: b.column_stride,
                        along: b.row_stride,
                        width: columns,
                        depth,
                    };
                    let serial = rows * columns * depth < SERIAL;
                    let b_new = if i == 0 { Some(right) } else { None };
                    pack(&kernel, packed_a, packed_b, left, b_new, serial);
                    let tile =
                        Tile { c: c.at(i * c_stride + j), c_stride, rows, columns, depth, alpha, store };
                    multiply(&kernel, tile, packed_a, packed_b, serial);
                }
            }
        }
    });
}

/// Packs the panels of A, and those of B where they are new.
fn pack(
    kernel: &Kernel,
    packed_a: &mut [f32],
    packed_b: &mut [f32],
    left: PanelSource,
    right: Option<PanelSource>,
    serial: bool,
) {
    let panels_a = packed_a.chunks_mut(kernel.mr * left.depth);
    let panels_b = packed_b.chunks_mut(kernel.nr * left.depth);
    let count_a = left.width.div_ceil(kernel.mr);
    let count_b = right.map_or(0, |right| right.width.div_ceil(kernel.nr));
    let mut jobs = panels_a.take(count_a).enumerate().map(|(index, panel)| (left, kernel.mr, index, panel));
    let jobs_b = panels_b
        .take(count_b)
        .enumerate()
        .filter_map(|(index, panel)| right.map(|right| (right, kernel.nr, index, panel)));
    let run = |(source, width, index, panel): (PanelSource, usize, usize, &mut [f32])| {
        pack_panel(panel, source, index * width, width);
    };
    if serial {
        jobs.by_ref().chain(jobs_b).for_each(run);
    } else {
        jobs.chain(jobs_b).collect::<Vec<_>>().into_par_iter().for_each(run);
    }
}

/// Shares the tile out to the threads, row blocks by panel groups.
fn multiply(kernel: &Kernel, tile: Tile, packed_a: &[f32], packed_b: &[f32], serial: bool) {
    let (row_panels, panels) = (tile.rows.div_ceil(kernel.mr), tile.columns.div_ceil(kernel.nr));
    let (mut high, mut wide) = (TASK_ROWS / kernel.mr, TASK_PANELS);
    let enough = 4 * rayon::current_num_threads();
    while row_panels.div_ceil(high) * panels.div_ceil(wide) < enough && (high > 4 || wide > 2) {
        if high * kernel.mr >= wide * kernel.nr && high > 4 || wide <= 2 {
            high /= 2;
        } else {
            wide /= 2;
        }
    }
    let across = panels.div_ceil(wide);
    let c = Shared(tile.c);
    let Tile { c_stride, depth, alpha, store, rows, columns, .. } = tile;
    let task = |index: usize| {
        let (i, j) = (index / across * high, index % across * wide);
        let (first_row, first_column) = (i * kernel.mr, j * kernel.nr);
        let part = Tile {
            c: c.at(first_row * c_stride + first_column),
            c_stride,
            rows: (high * kernel.mr).min(rows - first_row),
            columns: (wide * kernel.nr).min(columns - first_column),
            depth,
            alpha,
            store,
        };
        // SAFETY: the caller checked that C holds the tile, parts do not overlap, and `kernel`
        // returned code for instructions that were detected.
        unsafe {
            (kernel.run)(&part, &packed_a[first_row * depth..], &packed_b[first_column * depth..]);
        }
    };
    let tasks = row_panels.div_ceil(high) * across;
    if serial {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}
