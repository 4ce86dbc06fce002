//! Where a product is stored, and how sums get there.

use super::direct::{Direct, Place};
use super::{Size, Store};
use crate::device::cpu::simd::multiversion;
use crate::shape::Stored;
use half::bf16;

/// C, and what is stored in it.
pub struct Output<'a, C> {
    pub c: &'a mut [C],
    /// Elements from one row to the next.
    pub stride: usize,
    /// Multiplies the product.
    pub alpha: f32,
    pub store: Store,
    /// `[n]`, added to every row where the product is assigned; empty for none.
    pub bias: &'a [f32],
}

/// A part of C, which tasks share; each writes only its own.
pub struct Part<'a, C> {
    c: *mut C,
    stride: usize,
    alpha: f32,
    store: Store,
    bias: &'a [f32],
    pub rows: usize,
    pub columns: usize,
}
// SAFETY: the parts of different tasks do not overlap.
unsafe impl<C: Send> Send for Part<'_, C> {}
// SAFETY: as above.
unsafe impl<C: Send> Sync for Part<'_, C> {}

impl<C> Clone for Part<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C> Copy for Part<'_, C> {}

impl<'a, C: Written> Part<'a, C> {
    /// All of C, which the caller has checked to have room for `size`.
    pub fn all(out: Output<'a, C>, size: Size) -> Self {
        let Output { c, stride, alpha, store, bias } = out;
        Part { c: c.as_mut_ptr(), stride, alpha, store, bias, rows: size.m, columns: size.n }
    }

    /// The same part, to which more is added.
    pub fn added(self) -> Self {
        Part { store: Store::Add, bias: &[], ..self }
    }

    pub fn rows(self, first: usize, rows: usize) -> Self {
        debug_assert!(first + rows <= self.rows);
        Part { c: self.c.wrapping_add(first * self.stride), rows, ..self }
    }

    pub fn columns(self, first: usize, columns: usize) -> Self {
        debug_assert!(first + columns <= self.columns);
        let bias = self.bias.get(first..first + columns).unwrap_or(&[]);
        Part { c: self.c.wrapping_add(first), bias, columns, ..self }
    }

    /// The part as tiles of registers take it, if all that `mr` rows and `nr` columns have are part of it.
    pub fn direct(self, mr: usize, nr: usize) -> Option<Direct<'a>> {
        let Part { c, stride, alpha, store, bias, rows, columns } = self;
        let whole = rows.is_multiple_of(mr) && columns.is_multiple_of(nr);
        let add = store == Store::Add;
        whole.then(|| Direct { place: C::place(c), stride, alpha, add, bias, rows, columns })
    }

    /// Stores a product of nothing.
    pub fn clear(self) {
        let (zeros, all) = (vec![0.0; self.columns], self);
        for row in 0..self.rows {
            // SAFETY: the caller has all of C.
            unsafe { all.rows(row, 1).write(&zeros, 1, self.columns) };
        }
    }

    /// Stores sums that lie in tiles of `mr` rows and `nr` columns, one after the other down each column of tiles.
    ///
    /// # Safety
    /// No other task may have this part of C.
    pub unsafe fn write(self, sums: &[f32], mr: usize, nr: usize) {
        assert!(sums.len() >= self.rows.next_multiple_of(mr) * self.columns.next_multiple_of(nr));
        C::write(self, sums, mr, nr);
    }
}

/// What C may hold.
pub trait Written: Stored {
    /// See `Part::write`.
    fn write(part: Part<Self>, sums: &[f32], mr: usize, nr: usize);
    /// C, from here on, for tiles that are stored from registers.
    fn place(c: *mut Self) -> Place;
}

impl Written for f32 {
    fn write(part: Part<Self>, sums: &[f32], mr: usize, nr: usize) {
        write_f32(part, sums, mr, nr);
    }

    fn place(c: *mut f32) -> Place {
        Place::F32(c)
    }
}

impl Written for bf16 {
    fn write(part: Part<Self>, sums: &[f32], mr: usize, nr: usize) {
        write_bf16(part, sums, mr, nr);
    }

    fn place(c: *mut bf16) -> Place {
        Place::Bf16(c)
    }
}

multiversion! {
    fn write_f32(part: Part<f32>, sums: &[f32], mr: usize, nr: usize) {
        write(part, sums, mr, nr)
    }

    fn write_bf16(part: Part<bf16>, sums: &[f32], mr: usize, nr: usize) {
        write(part, sums, mr, nr)
    }
}

#[inline(always)]
fn write<C: Stored>(part: Part<C>, sums: &[f32], mr: usize, nr: usize) {
    let alpha = part.alpha;
    match (part.store, part.bias) {
        (Store::Add, _) => each(part, sums, mr, nr, |to, sum, _| C::narrow(sum * alpha + to.wide())),
        (Store::Assign, []) => each(part, sums, mr, nr, |_, sum, _| C::narrow(sum * alpha)),
        (Store::Assign, _) => each(part, sums, mr, nr, |_, sum, bias| C::narrow(sum * alpha + bias)),
    }
}

/// Stores what `value` makes of what C holds, a sum and the bias of its column.
#[inline(always)]
fn each<C: Stored>(part: Part<C>, sums: &[f32], mr: usize, nr: usize, value: impl Fn(C, f32, f32) -> C) {
    let Part { c, stride, bias, rows, columns, .. } = part;
    let height = rows.next_multiple_of(mr) * nr;
    // Row by row: down the columns of tiles, which are a few lines wide, every row would wait for memory anew.
    for i in 0..rows {
        for (first, tiles) in (0..columns).step_by(nr).zip(sums.chunks_exact(height)) {
            let wide = nr.min(columns - first);
            let sums = &tiles[i * nr..][..wide];
            // Biases that are not there are never looked at.
            let bias = bias.get(first..first + wide).unwrap_or(sums);
            // SAFETY: the part is the caller's, and the columns are inside it.
            let to = unsafe { std::slice::from_raw_parts_mut(c.add(i * stride + first), wide) };
            for j in 0..wide {
                to[j] = value(to[j], sums[j], bias[j]);
            }
        }
    }
}
