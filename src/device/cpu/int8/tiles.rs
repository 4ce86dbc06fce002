//! Sums of bytes on tiles (AMX), for many rows of x.
//!
//! The left operand is W where it lies, 64 values of a row in a line of a tile; the right one is x, packed so that a line
//! has four values of each of 16 rows. A line of the sums is one of W, and they are transposed before they are stored.

use super::{Rounded, Rows, Size};
use crate::device::cpu::features::{Feature, has};
use crate::device::cpu::gemm::tiles::pack::transpose;
use crate::device::cpu::gemm::tiles::{BLOCK, LINE, Registers, SIDE, Tiles, Twin, WORDS, on_twin};
use crate::device::cpu::scratch::with_scratch;
use crate::device::cpu::simd::multiversion;
use crate::device::cpu::skinny::Shared;
use rayon::prelude::*;

/// Values in a line of a tile.
const VALUES: usize = LINE;
/// Rows of x from which on tiles are ahead: fewer are multiplied at the speed of memory on vectors.
const FEWEST: usize = SIDE + 1;
/// Rows of x that a task multiplies with its rows of W: with their sums they stay in the second-level cache.
const X_ROWS: usize = 8 * BLOCK;
/// Bytes of W that a task reads for each of those, about.
const TASK_BYTES: usize = 256 << 10;

/// The code for rows of x, packed, against a block of rows of W: a block of sums for every two columns of tiles.
pub type Run = unsafe fn(sums: &mut [f32], x: &[f32], w: &[i8]);

/// How many rows of W, from the first on, are multiplied on tiles.
pub fn served(size: Size) -> usize {
    let serves = has(Feature::AmxInt8) && size.m >= FEWEST && size.k.is_multiple_of(VALUES);
    if serves { size.n - size.n % BLOCK } else { 0 }
}

/// The code where `features` reports AMX with bytes.
pub fn code() -> Run {
    if on_twin() { run::<Twin> } else { on_registers }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn on_registers(sums: &mut [f32], x: &[f32], w: &[i8]) {
    // SAFETY: the caller's contract.
    unsafe { run::<Registers>(sums, x, w) }
}

/// As [`super::multiply`], for whole blocks of rows of W, and rows of whole lines.
///
/// # Safety
/// The instructions of `run` must exist.
pub unsafe fn multiply(
    run: Run,
    c: &mut [f32],
    c_stride: usize,
    x: &Rounded,
    w: Rows,
    bias: &[f32],
    size: Size,
) {
    let Size { m, n, k } = size;
    assert!(n.is_multiple_of(BLOCK) && k.is_multiple_of(VALUES));
    let c = &Shared(c.as_mut_ptr());
    let column = k / VALUES * WORDS;
    with_scratch(m.next_multiple_of(BLOCK) / SIDE * column, |packed| {
        packed.par_chunks_exact_mut(column).enumerate().for_each(|(at, tiles)| pack(tiles, x.rows, at, k));
        let packed = &*packed;
        let high = (TASK_BYTES / k).max(BLOCK).next_multiple_of(BLOCK);
        let (down, across) = (m.div_ceil(X_ROWS), n.div_ceil(high));
        (0..down * across).into_par_iter().for_each(|index| {
            let (row, first) = (index / across * X_ROWS, index % across * high);
            let rows = X_ROWS.min(m - row);
            let columns = rows.next_multiple_of(BLOCK) / SIDE;
            let tiles = &packed[row / SIDE * column..][..columns * column];
            with_scratch(columns * SIDE * BLOCK, |sums| {
                for first in (first..n.min(first + high)).step_by(BLOCK) {
                    // SAFETY: the caller's contract; the panels are of whole blocks.
                    unsafe { run(sums, tiles, &w.values[first * k..][..BLOCK * k]) };
                    let scales = (&x.rows.scales[row..][..rows], &w.scales[first..][..BLOCK]);
                    let bias = bias.get(first..first + BLOCK).unwrap_or(&[]);
                    let to = row * c_stride + first;
                    store(c, to, c_stride, sums, scales, bias);
                }
            });
        });
    });
}

/// Packs 16 rows of x, zeros beyond the last: a column of tiles.
fn pack(tiles: &mut [f32], x: Rows, at: usize, k: usize) {
    let rows = x.scales.len().saturating_sub(at * SIDE).min(SIDE);
    let mut near = [0f32; WORDS];
    for (block, tile) in tiles.chunks_exact_mut(WORDS).enumerate() {
        for (row, line) in near.chunks_exact_mut(SIDE).take(rows).enumerate() {
            let from = (at * SIDE + row) * k + block * VALUES;
            bytemuck::cast_slice_mut(line).copy_from_slice(&x.values[from..][..VALUES]);
        }
        transpose(tile, SIDE, &near, SIDE);
    }
}

/// # Safety
/// The instructions of `T` must be here and allowed.
#[inline(always)]
pub unsafe fn run<T: Tiles>(sums: &mut [f32], x: &[f32], w: &[i8]) {
    let k = w.len() / BLOCK;
    let column = k / VALUES * WORDS;
    assert!(w.len() == BLOCK * k && k.is_multiple_of(VALUES));
    assert!(x.len().is_multiple_of(2 * column) && sums.len() == x.len() / (2 * column) * BLOCK * BLOCK);
    let stride = BLOCK * size_of::<f32>();
    // SAFETY: the caller's contract; the assertions bound every tile.
    unsafe {
        let mut tiles = T::configure();
        for (x, sums) in x.chunks_exact(2 * column).zip(sums.chunks_exact_mut(BLOCK * BLOCK)) {
            tiles.zero::<0>();
            tiles.zero::<1>();
            tiles.zero::<2>();
            tiles.zero::<3>();
            for step in 0..k / VALUES {
                let upper = w.as_ptr().add(step * VALUES).cast();
                tiles.load::<4>(upper, k);
                tiles.load::<5>(upper.byte_add(SIDE * k), k);
                tiles.load::<6>(x.as_ptr().add(step * WORDS), LINE);
                tiles.load::<7>(x.as_ptr().add(column + step * WORDS), LINE);
                tiles.multiply_bytes::<0, 4, 6>();
                tiles.multiply_bytes::<1, 4, 7>();
                tiles.multiply_bytes::<2, 5, 6>();
                tiles.multiply_bytes::<3, 5, 7>();
            }
            let corner = sums.as_mut_ptr();
            tiles.store::<0>(corner, stride);
            tiles.store::<1>(corner.add(SIDE), stride);
            tiles.store::<2>(corner.add(SIDE * BLOCK), stride);
            tiles.store::<3>(corner.add(SIDE * BLOCK + SIDE), stride);
        }
    }
}

multiversion! {
    /// Stores blocks of sums, a line for each row of W, to rows of C from `to` on, which belong to the caller alone.
    fn store(
        c: &Shared,
        to: usize,
        c_stride: usize,
        sums: &[f32],
        scales: (&[f32], &[f32]),
        bias: &[f32],
    ) {
        let scales_w = &scales.1[..BLOCK];
        let mut biases = [0f32; BLOCK];
        biases[..bias.len()].copy_from_slice(bias);
        let mut rows = [0f32; BLOCK * BLOCK];
        for (at, (sums, scales)) in sums.chunks_exact(BLOCK * BLOCK).zip(scales.0.chunks(BLOCK)).enumerate() {
            for (i, j) in [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)] {
                transpose(&mut rows[i * BLOCK + j..], BLOCK, &sums[j * BLOCK + i..], BLOCK);
            }
            for (i, (row, scale)) in rows.chunks_exact(BLOCK).zip(scales).enumerate() {
                let mut line = [0f32; BLOCK];
                for j in 0..BLOCK {
                    line[j] = row[j].to_bits() as i32 as f32 * scale * scales_w[j] + biases[j];
                }
                // SAFETY: the row is inside C, and the caller's alone.
                unsafe { c.write_line(to + (at * BLOCK + i) * c_stride, &line) };
            }
        }
    }
}
