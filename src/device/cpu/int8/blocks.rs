//! Sums of bytes for many rows of x: these are packed, a line of a tile having four values of each of 16 rows, and W is
//! read where it lies.
//!
//! A line of the sums is one of W, and they are transposed before they are stored.

use super::block::{Block, VALUES};
use super::lanes::InLanes;
use super::tiles::OnTiles;
use super::{Rounded, Rows, Size};
use crate::device::cpu::features::{Feature, has};
use crate::device::cpu::gemm::tiles::pack::transpose;
use crate::device::cpu::gemm::tiles::{BLOCK, Registers, SIDE, Twin, WORDS, on_twin};
use crate::device::cpu::scratch::with_scratch;
use crate::device::cpu::simd::multiversion;
use crate::device::cpu::skinny::Shared;
use rayon::prelude::*;

/// Rows of x from which on packing them pays: fewer are multiplied at the speed of memory.
const FEWEST: usize = SIDE + 1;
/// Rows of x that a task multiplies with its rows of W.
const X_ROWS: usize = 8 * BLOCK;
/// Bytes of W that a task reads for each block of those, about: they stay in the second-level cache.
const TASK_BYTES: usize = 256 << 10;

/// The code for a task, which needs room for a block of sums and a number for each row of W.
type Run = unsafe fn(Task, &mut [f32]);

/// A way to multiply: the code, and the bits that x has flipped for it.
pub struct Way {
    run: Run,
    flipped: u32,
}

/// Whole blocks of rows of W, some rows of x, packed, and where their products go: to rows of C from `to` on, which belong
/// to the task alone.
#[derive(Clone, Copy)]
struct Task<'a> {
    x: &'a [f32],
    x_scales: &'a [f32],
    w: Rows<'a>,
    /// One for each row of W, or empty.
    bias: &'a [f32],
    c: &'a Shared,
    to: usize,
    c_stride: usize,
}

/// How many rows of W, from the first on, are multiplied this way here.
pub fn served(size: Size) -> usize {
    let here = has(Feature::AmxInt8) || has(Feature::Avx512Vnni);
    match here && size.m >= FEWEST && size.k.is_multiple_of(VALUES) {
        true => size.n - size.n % BLOCK,
        false => 0,
    }
}

/// The way for where `features` reports AMX with bytes, or else VNNI.
pub fn way() -> Way {
    match has(Feature::AmxInt8) {
        true if on_twin() => on_twin_of_tiles(),
        true => Way { run: on_registers, flipped: OnTiles::<Registers>::FLIPPED },
        false => Way { run: in_lanes, flipped: InLanes::FLIPPED },
    }
}

/// On the tiles' twin, in plain Rust.
pub fn on_twin_of_tiles() -> Way {
    Way { run: run::<OnTiles<Twin>>, flipped: OnTiles::<Twin>::FLIPPED }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn on_registers(task: Task, room: &mut [f32]) {
    // SAFETY: the caller's contract.
    unsafe { run::<OnTiles<Registers>>(task, room) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn in_lanes(task: Task, room: &mut [f32]) {
    // SAFETY: the caller's contract.
    unsafe { run::<InLanes>(task, room) }
}

/// As [`super::multiply`], for whole blocks of rows of W, and rows of whole lines.
///
/// # Safety
/// The instructions of the way must exist.
pub unsafe fn multiply(
    Way { run, flipped }: Way,
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
        let columns = packed.par_chunks_exact_mut(column).enumerate();
        columns.for_each(|(at, tiles)| pack(tiles, x.rows, at, k, flipped));
        let packed = &*packed;
        let high = (TASK_BYTES / k).max(BLOCK).next_multiple_of(BLOCK);
        let (down, across) = (m.div_ceil(X_ROWS), n.div_ceil(high));
        (0..down * across).into_par_iter().for_each(|index| {
            let (row, first) = (index / across * X_ROWS, index % across * high);
            let (rows, last) = (X_ROWS.min(m - row), n.min(first + high));
            let columns = rows.next_multiple_of(BLOCK) / SIDE;
            let task = Task {
                x: &packed[row / SIDE * column..][..columns * column],
                x_scales: &x.rows.scales[row..][..rows],
                w: Rows { values: &w.values[first * k..last * k], scales: &w.scales[first..last] },
                bias: bias.get(first..last).unwrap_or(&[]),
                c,
                to: row * c_stride + first,
                c_stride,
            };
            with_scratch(BLOCK * BLOCK + last - first, |room| {
                // SAFETY: the caller's contract.
                unsafe { run(task, room) }
            });
        });
    });
}

/// Packs 16 rows of x, zeros beyond the last: a column of tiles.
fn pack(tiles: &mut [f32], x: Rows, at: usize, k: usize, flipped: u32) {
    let rows = x.scales.len().saturating_sub(at * SIDE).min(SIDE);
    let mut near = [0f32; WORDS];
    for (block, tile) in tiles.chunks_exact_mut(WORDS).enumerate() {
        for (row, line) in near.chunks_exact_mut(SIDE).take(rows).enumerate() {
            let from = (at * SIDE + row) * k + block * VALUES;
            bytemuck::cast_slice_mut(line).copy_from_slice(&x.values[from..][..VALUES]);
            line.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() ^ flipped));
        }
        transpose(tile, SIDE, &near, SIDE);
    }
}

/// # Safety
/// The instructions of `B` must exist.
#[inline(always)]
unsafe fn run<B: Block>(task: Task, room: &mut [f32]) {
    let Task { x, x_scales, w, bias, c, to, c_stride } = task;
    let k = w.values.len() / w.scales.len();
    let column = k / VALUES * WORDS;
    let (sums, excess) = room.split_at_mut(BLOCK * BLOCK);
    let excess: &mut [i32] = bytemuck::cast_slice_mut(excess);
    // SAFETY: the caller's contract.
    let mut products = unsafe {
        B::excess(excess, w.values);
        B::new()
    };
    // All of W meets the same rows of x, so that rows of C are written one block beside the other.
    for (pair, (x, x_scales)) in x.chunks_exact(2 * column).zip(x_scales.chunks(BLOCK)).enumerate() {
        let (upper, lower) = x.split_at(column);
        let blocks = w.values.chunks_exact(BLOCK * k).zip(w.scales.chunks_exact(BLOCK));
        for (block, ((w, w_scales), excess)) in blocks.zip(excess.chunks_exact(BLOCK)).enumerate() {
            // SAFETY: the caller's contract.
            unsafe { products.multiply(sums, [upper, lower], w, excess) };
            let (row, column) = (pair * BLOCK, block * BLOCK);
            let bias = bias.get(column..column + BLOCK).unwrap_or(&[]);
            store(c, to + row * c_stride + column, c_stride, sums, (x_scales, w_scales), bias);
        }
    }
}

multiversion! {
    /// Stores a block of sums, a line for each row of W, to rows of C from `to` on, which belong to the caller alone.
    fn store(
        c: &Shared,
        to: usize,
        c_stride: usize,
        sums: &[f32],
        scales: (&[f32], &[f32]),
        bias: &[f32],
    ) {
        // Arrays, not slices: with lengths that the compiler did not know half of each row was computed number by number.
        let scales_w: [f32; BLOCK] = std::array::from_fn(|j| scales.1[j]);
        let biases: [f32; BLOCK] = std::array::from_fn(|j| bias.get(j).copied().unwrap_or(0.0));
        let mut rows = [[0f32; BLOCK]; BLOCK];
        for (i, j) in [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)] {
            transpose(&mut rows.as_flattened_mut()[i * BLOCK + j..], BLOCK, &sums[j * BLOCK + i..], BLOCK);
        }
        for (i, (row, scale)) in rows.iter().zip(scales.0).enumerate() {
            let line: [f32; BLOCK] =
                std::array::from_fn(|j| row[j].to_bits() as i32 as f32 * scale * scales_w[j] + biases[j]);
            // SAFETY: the row is inside C, and the caller's alone.
            unsafe { c.write_line(to + i * c_stride, &line) };
        }
    }
}
