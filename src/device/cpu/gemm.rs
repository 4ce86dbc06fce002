//! `C = alpha A B (+ C)` with sums in f32: packed panels, a register tile, all threads (Goto and van de Geijn 2008). What
//! is in a panel, and what multiplies panels, is a `Product`'s; the rest is the same for all of them.
//!
//! Threads share out tiles of C and never a sum over k, so the bits do not depend on their number.

mod ahead;
mod block;
mod choice;
mod direct;
mod left;
mod output;
pub(super) mod pairs;
#[cfg(target_arch = "x86_64")]
mod parts;
mod product;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
pub(super) mod tiles;

pub use choice::{Factor, way};
pub use output::{Output, Written};

use rayon::prelude::*;

use super::pack::PanelSource;
use super::scratch::with_scratch;
use super::skinny;
use ahead::Ahead;
use block::Panels;
use half::bf16;
use left::Left;
use output::Part;
use product::Product;

/// A matrix operand: element `(i, j)` at `i * row_stride + j * column_stride` of `data`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, E = f32> {
    pub data: &'a [E],
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a, E> Matrix<'a, E> {
    /// Row-major with `columns` elements a row.
    pub fn rows(data: &'a [E], columns: usize) -> Self {
        Matrix { data, row_stride: columns, column_stride: 1 }
    }

    /// The transpose of a row-major matrix with `columns` elements a row.
    pub fn transposed(data: &'a [E], columns: usize) -> Self {
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

/// Words of A that are packed at a time, for all threads.
const LEFT: usize = 2 << 20;
/// Rows of A that a task multiplies with them at a time, so that the sums stay there too.
const ROWS: usize = 192;
/// Tasks for each thread, so that none waits long for the last.
const TASKS: usize = 6;
/// Below this many multiply-adds, starting threads costs more than it saves.
const SERIAL: usize = 1 << 19;

/// `C = alpha A B`, or `C += alpha A B`; row `i` of C starts at `i * c_stride`.
///
/// Panics when an operand is too short for the sizes.
pub fn gemm(c: &mut [f32], c_stride: usize, a: Matrix, b: Matrix, size: Size, alpha: f32, store: Store) {
    let out = Output { c, stride: c_stride, alpha, store, bias: &[] };
    check(&out, &a, &b, size);
    if skinny::serves(&a, &b, size) {
        let w = skinny::Rows { data: b.data, stride: b.column_stride };
        return skinny::gemm(out.c, c_stride, a, w, size, alpha, store);
    }
    blocked(&f32::product(), out, a, b, size);
}

/// `C = A B`, or `C += A B`, of bf16 with sums in f32; row `i` of C starts at `i * c_stride`.
///
/// Panics when an operand is too short for the sizes.
pub fn gemm_bf16(c: &mut [f32], c_stride: usize, a: Matrix<bf16>, b: Matrix<bf16>, size: Size, store: Store) {
    let out = Output { c, stride: c_stride, alpha: 1.0, store, bias: &[] };
    check(&out, &a, &b, size);
    if skinny::serves(&a, &b, size) && a.row_stride == size.k && b.column_stride == size.k {
        return skinny::gemm_bf16(out.c, c_stride, a.data, b.data, size, store);
    }
    blocked(&bf16::product(), out, a, b, size);
}

/// Whether sums over `k` values of `E` are complete before they are stored, so that C may hold less than f32.
pub fn stores_once<E: Factor>(k: usize) -> bool {
    let product = E::product();
    product.words(k) <= product.depth
}

/// `C = alpha A B + bias`, or `C += alpha A B`, whatever the number of rows; where C is not f32, [`stores_once`] holds.
///
/// Panics when an operand is too short for the sizes.
pub fn gemm_into<E: Factor, C: Written>(out: Output<C>, a: Matrix<E>, b: Matrix<E>, size: Size) {
    check(&out, &a, &b, size);
    blocked(&E::product(), out, a, b, size);
}

/// Panics when an operand is too short for the sizes.
fn check<E, C>(out: &Output<C>, a: &Matrix<E>, b: &Matrix<E>, size: Size) {
    let Size { m, n, k } = size;
    let c = Matrix::rows(out.c, out.stride);
    assert!(c.holds(m, n) && (m <= 1 || out.stride >= n), "gemm: C is too short for {size:?}");
    assert!(out.bias.is_empty() || out.bias.len() == n, "gemm: the bias is not [{n}]");
    assert!(a.holds(m, k), "gemm: A is too short for {size:?}");
    assert!(b.holds(k, n), "gemm: B is too short for {size:?}");
}

/// The product by packed panels; the caller has checked the sizes.
fn blocked<E: Factor, C: Written>(
    product: &Product<E>,
    out: Output<C>,
    a: Matrix<E>,
    b: Matrix<E>,
    size: Size,
) {
    let Size { m, n, k } = size;
    if m == 0 || n == 0 {
        return;
    }
    let part = Part::all(out, size);
    if k == 0 {
        return part.clear();
    }
    let words = product.words(k);
    let depth =
        words.div_ceil(words.div_ceil(product.depth)).next_multiple_of(product.multiple * product.parts);
    let rows = (LEFT / depth).next_multiple_of(product.mr).min(m.next_multiple_of(product.mr));
    let serial = m * n * k < SERIAL;
    for p in (0..k).step_by(product.values_in(depth)) {
        let values = product.values_in(depth).min(k - p);
        let part = if p == 0 { part } else { part.added() };
        let right = PanelSource {
            data: &b.data[p * b.row_stride..],
            across: b.column_stride,
            along: b.row_stride,
            width: n,
            depth: values,
        };
        for i in (0..m).step_by(rows) {
            let source = PanelSource {
                data: &a.data[i * a.row_stride + p * a.column_stride..],
                across: a.row_stride,
                along: a.column_stride,
                width: rows.min(m - i),
                depth: values,
            };
            let part = part.rows(i, source.width);
            match product.stored_left(&source) {
                Some(left) => multiply(product, part, left, right, serial),
                None => with_scratch(
                    source.width.next_multiple_of(product.mr) * product.words(values),
                    |packed| {
                        pack_left(product, packed, source, serial);
                        multiply(product, part, Left::Packed(packed), right, serial);
                    },
                ),
            }
        }
    }
}

fn pack_left<E: Factor>(product: &Product<E>, packed: &mut [f32], left: PanelSource<E>, serial: bool) {
    let panel = product.mr * product.words(left.depth);
    let pack = |(index, panel): (usize, &mut [f32])| {
        (product.pack_left)(panel, left, index * product.mr, product.mr);
    };
    match serial {
        true => packed.chunks_exact_mut(panel).enumerate().for_each(pack),
        false => packed.par_chunks_exact_mut(panel).enumerate().with_min_len(4).for_each(pack),
    }
}

/// Shares the part of C out to the threads, by columns, and where these are few by rows too: each task packs its columns
/// of B and multiplies them with its panels of A.
fn multiply<E: Factor, C: Written>(
    product: &Product<E>,
    part: Part<C>,
    left: Left,
    right: PanelSource<E>,
    serial: bool,
) {
    let &Product { mr, nr, run, pack_right, right: most, direct, .. } = product;
    let depth = product.words(right.depth);
    let (row_panels, panels) = (part.rows.div_ceil(mr), part.columns.div_ceil(nr));
    let enough = if serial { 1 } else { TASKS * rayon::current_num_threads() };
    let wide = panels.div_ceil(enough).min(most / (nr * depth)).max(1);
    let across = panels.div_ceil(wide);
    let down = enough.div_ceil(across).min(part.rows.div_ceil(ROWS));
    let high = row_panels.div_ceil(down);
    let task = |index: usize| {
        let (first, last) = (index / across * high, row_panels.min((index / across + 1) * high));
        let column = index % across * wide * nr;
        let columns = (wide * nr).min(part.columns - column);
        let count = columns.div_ceil(nr);
        with_scratch(count * nr * (depth + ROWS), |scratch| {
            let (b, sums) = scratch.split_at_mut(count * nr * depth);
            for (panel, b) in b.chunks_exact_mut(nr * depth).enumerate() {
                pack_right(b, right, column + panel * nr, nr);
            }
            for row in (first..last).step_by(ROWS / mr) {
                let tall = (ROWS / mr).min(last - row);
                let a = left.panels(row, tall, mr, depth);
                let sums = &mut sums[..tall * mr * count * nr];
                // What the next task packs, which this thread is likely to take.
                let ahead = match row + tall < last {
                    true => Ahead::NOTHING,
                    false => Ahead::of(&right, column + columns, wide * nr),
                };
                let (row, rows) = (row * mr, (tall * mr).min(part.rows - row * mr));
                let part = part.rows(row, rows).columns(column, columns);
                let direct = direct.then(|| part.direct(mr, nr)).flatten();
                let panels = Panels { a, b, depth, rows: tall, columns: count, ahead, direct };
                // SAFETY: the code of a product is for instructions that were detected, and the parts of different tasks
                // do not overlap.
                unsafe {
                    run(panels, sums);
                    if direct.is_none() {
                        part.write(sums, mr, nr);
                    }
                }
            }
        });
    };
    let tasks = row_panels.div_ceil(high) * across;
    match serial {
        true => (0..tasks).for_each(task),
        false => (0..tasks).into_par_iter().with_max_len(1).for_each(task),
    }
}
