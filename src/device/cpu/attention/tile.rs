//! What forward and backward do to one tile. Scores lie transposed, `[key][query]`, so that the
//! softmax over keys runs down the columns of a tile and never across a vector.

use super::Attention;
use super::form::Form;
use super::keys::KeyTile;
use crate::device::cpu::microkernel::{Strides, Term, Vector, product};
use std::marker::PhantomData;

/// Most queries and most keys of a tile.
pub const SIDE: usize = 64;
/// Head sizes are padded to this many floats in tiles; a multiple of every vector.
pub const PAD: usize = 16;

/// The head size as tiles hold it.
pub fn padded(d: usize) -> usize {
    d.next_multiple_of(PAD)
}

/// A matrix in scratch memory: rows of `stride` floats.
pub type Rows<'a> = (&'a mut [f32], usize);

/// Rows, columns and depth of a product of tiles, the depth in words.
#[derive(Clone, Copy)]
pub struct Extent {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
}

/// What multiplies the operands of a tile, a word holding one value of the depth or several.
pub trait Multiply {
    /// Rows that `c` and `a` must have room for a multiple of.
    const ROWS: usize;

    /// # Safety
    /// The instructions must exist, and nothing else may use their state before the value is dropped.
    unsafe fn new() -> Self;

    /// `c = a b`, or `c += a b` where `ADD`; rows round up to `ROWS` and columns to 16, so `c` and `a` must have room for
    /// that. What `c` gets beyond the extent is unspecified.
    ///
    /// # Safety
    /// As for `new`.
    unsafe fn multiply<const ADD: bool>(
        &mut self,
        c: Rows,
        a: &[f32],
        strides: Strides,
        b: (&[f32], usize),
        extent: Extent,
    );
}

/// Half the rows that vectors of 16 floats are multiplied by at a time.
const HALF: usize = 4;

/// By vectors, each product of words as `T` takes it, `MR` rows at a time.
pub struct Vectors<V, T, const MR: usize>(PhantomData<(V, T)>);

impl<V: Vector, T: Term<V>, const MR: usize> Multiply for Vectors<V, T, MR> {
    const ROWS: usize = MR;

    #[inline(always)]
    unsafe fn new() -> Self {
        Vectors(PhantomData)
    }

    #[inline(always)]
    unsafe fn multiply<const ADD: bool>(
        &mut self,
        c: Rows,
        a: &[f32],
        strides: Strides,
        b: (&[f32], usize),
        extent: Extent,
    ) {
        let Extent { rows, columns, depth } = extent;
        let ((c, c_stride), (b, b_stride)) = (c, b);
        let rows = rows.next_multiple_of(MR);
        let columns = columns.next_multiple_of(V::LANES);
        assert!(rows == 0 || (rows - 1) * c_stride + columns <= c.len());
        assert!(depth == 0 || (depth - 1) * b_stride + columns <= b.len());
        assert!(rows == 0 || depth == 0 || (rows - 1) * strides.row + (depth - 1) * strides.depth < a.len());
        let (c, a, b) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
        let mut j = 0;
        // SAFETY: the assertions above bound every row, column and depth touched.
        unsafe {
            // Half the rows and twice the columns need two loads less of ten, and as many registers for sums.
            while MR == 2 * HALF && j + 4 * V::LANES <= columns {
                let (c, b) = (c.wrapping_add(j), b.wrapping_add(j));
                strip::<V, T, HALF, 4, ADD>((c, c_stride), (a, strides), (b, b_stride), rows, depth);
                j += 4 * V::LANES;
            }
            while j + 2 * V::LANES <= columns {
                let (c, b) = (c.wrapping_add(j), b.wrapping_add(j));
                strip::<V, T, MR, 2, ADD>((c, c_stride), (a, strides), (b, b_stride), rows, depth);
                j += 2 * V::LANES;
            }
            if j < columns {
                let (c, b) = (c.wrapping_add(j), b.wrapping_add(j));
                strip::<V, T, MR, 1, ADD>((c, c_stride), (a, strides), (b, b_stride), rows, depth);
            }
        }
    }
}

/// NV vectors of the columns of [`Multiply::multiply`], MR rows at a time.
///
/// # Safety
/// The pointers must reach all that is multiplied and stored, and the instructions of `V` and `T` must exist.
#[inline(always)]
unsafe fn strip<V: Vector, T: Term<V>, const MR: usize, const NV: usize, const ADD: bool>(
    (c, c_stride): (*mut f32, usize),
    (a, strides): (*const f32, Strides),
    (b, b_stride): (*const f32, usize),
    rows: usize,
    depth: usize,
) {
    for i in (0..rows).step_by(MR) {
        // SAFETY: the caller's contract.
        unsafe {
            let acc = product::<V, T, MR, NV>(depth, a.add(i * strides.row), strides, b, b_stride);
            store::<V, MR, NV, ADD>(acc, c.add(i * c_stride), c_stride);
        }
    }
}

/// # Safety
/// `c` must own MR rows of NV vectors, and the instructions of `V` must exist.
#[inline(always)]
unsafe fn store<V: Vector, const MR: usize, const NV: usize, const ADD: bool>(
    acc: [[V; NV]; MR],
    c: *mut f32,
    c_stride: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let one = V::splat(1.0);
        for (i, row) in acc.into_iter().enumerate() {
            for (v, sum) in row.into_iter().enumerate() {
                let to = c.add(i * c_stride + v * V::LANES);
                match ADD {
                    true => sum.fma(one, V::load(to)).store(to),
                    false => sum.store(to),
                }
            }
        }
    }
}

/// The rows of the keys of one head, as a left operand; zeros for a hidden key, which may hold anything, and 0 * NaN is
/// NaN.
#[inline(always)]
pub fn gather<F: Form>(
    to: Rows,
    from: &[F::Stored],
    offset: impl Fn(usize) -> usize,
    keys: &KeyTile,
    d: usize,
) {
    let (to, stride) = to;
    for (row, &position) in to.chunks_exact_mut(stride).zip(&keys.position[..keys.len]) {
        let at = offset(position as usize);
        F::left(row, &from[at..at + d]);
    }
    if keys.hides {
        for (row, &bias) in to.chunks_exact_mut(stride).zip(&keys.bias[..keys.len]) {
            if bias == f32::NEG_INFINITY {
                row[..F::words(d)].fill(0.0);
            }
        }
    }
}

/// Adds the biases of the keys and hides the pairs outside the band.
#[inline(always)]
pub fn mask<const BQ: usize>(scores: &mut [f32], keys: &KeyTile, first_query: usize) {
    for (j, row) in scores.chunks_exact_mut(BQ).take(keys.len).enumerate() {
        let bias = keys.bias[j];
        if bias == f32::NEG_INFINITY {
            row.fill(bias);
        } else if bias != 0.0 {
            for score in row.iter_mut() {
                *score += bias;
            }
        }
        if let Some((low, high)) = keys.band {
            // Key - query runs down as the query runs up; seen are the queries key - high ..= key - low.
            let distance = keys.position[j] as isize - first_query as isize;
            let from = distance.saturating_sub(high).clamp(0, BQ as isize) as usize;
            let to = distance.saturating_sub(low).saturating_add(1).clamp(0, BQ as isize) as usize;
            row[..from].fill(f32::NEG_INFINITY);
            row[to.max(from)..].fill(f32::NEG_INFINITY);
        }
    }
}

/// The dropout factors of a tile, `[key][query]`; nothing where there is no dropout.
pub fn dropout_factors<E>(
    factors: &mut [f32],
    width: usize,
    attention: &Attention<E>,
    head: usize,
    queries: (usize, usize),
    keys: &KeyTile,
) {
    let Some(mask) = attention.dropout else {
        return;
    };
    let (t, s) = (attention.sizes.t as u64, attention.sizes.s as u64);
    let mut line = [0.0f32; SIDE];
    for i in 0..queries.1 - queries.0 {
        let row = (head as u64 * t + (queries.0 + i) as u64) * s;
        let mut j = 0;
        while j < keys.len {
            let first = keys.position[j];
            let run =
                (1..keys.len - j).find(|&n| keys.position[j + n] != first + n as u32).unwrap_or(keys.len - j);
            mask.factors(&mut line[j..j + run], row + first as u64);
            j += run;
        }
        for (j, &factor) in line[..keys.len].iter().enumerate() {
            factors[j * width + i] = factor;
        }
    }
}
