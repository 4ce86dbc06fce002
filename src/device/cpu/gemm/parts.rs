//! Products of f32 on units for bf16: a value is the sum of three bf16, exact to a few units in its last place, and of the
//! nine products of parts the six large ones are summed (Henry et al. 2019, arXiv 1904.06376), the five small ones of
//! these apart from the largest, so that they are not lost in its sum.
//!
//! A panel holds, for the same values of k, the words of the largest parts, of the next, and of the smallest.

#[cfg(test)]
mod tests;

use super::block::Panels;
use super::product::Product;
use super::tiles::{Registers, SIDE, Tiles, VALUES, WORDS};
use crate::device::cpu::microkernel::{Term, Vector};
use crate::device::cpu::pack::{PanelSource, pack_panel, pair};
use crate::device::cpu::simd::multiversion;
use crate::shape::Stored;
use half::bf16;
use std::arch::x86_64::__m512;

/// Parts of a value.
const PARTS: usize = 3;
/// Parts of the left and the right operand in each of the small products, the smallest first.
const SMALL: [(usize, usize); 5] = [(2, 0), (1, 1), (0, 2), (1, 0), (0, 1)];
/// Words of k between two additions to the sums.
const NEAR: usize = 3 * 128;
/// Rows of the register tile, and its vectors.
const MR: usize = 6;
const NV: usize = 2;
const LANES: usize = 16;
/// Columns of a block of sums on tiles; its rows are those of a tile.
const COLUMNS: usize = 2 * SIDE;

/// By pairs of bf16, where AVX512_BF16 was detected.
pub fn on_pairs() -> Product<f32> {
    by_pairs("six products of bf16 parts (AVX-512)", MR, NV * LANES, run_pairs)
}

/// On tiles, where `features` reports AMX.
pub fn on_tiles() -> Product<f32> {
    by_tiles("six products of bf16 parts (AMX)", run_tiles)
}

fn by_pairs(name: &'static str, mr: usize, nr: usize, run: unsafe fn(Panels, &mut [f32])) -> Product<f32> {
    let (pack_left, pack_right): (super::product::Pack<f32>, super::product::Pack<f32>) =
        (pack_pairs, pack_pairs);
    Product { name, mr, nr, values: 2, multiple: 1, parts: PARTS, pack_left, pack_right, run }
}

fn by_tiles(name: &'static str, run: unsafe fn(Panels, &mut [f32])) -> Product<f32> {
    let (mr, nr) = (SIDE, COLUMNS);
    Product { name, mr, nr, values: 2, multiple: SIDE, parts: PARTS, pack_left, pack_right, run }
}

/// # Safety
/// The instructions must exist.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn run_pairs(panels: Panels, sums: &mut [f32]) {
    // SAFETY: the caller's contract.
    unsafe { pairs::<__m512, super::pairs::Pairs, MR, NV>(panels, sums) }
}

/// # Safety
/// The instructions must be here and allowed.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn run_tiles(panels: Panels, sums: &mut [f32]) {
    // SAFETY: the caller's contract.
    unsafe { tiles::<Registers>(panels, sums) }
}

/// The largest part of a value, and what is left of it. Of what is not finite, the part is all; of numbers that bf16
/// rounds to infinity, it is cut off.
#[inline(always)]
fn part(x: f32) -> (bf16, f32) {
    let nearest = bf16::narrow(x);
    let cut = bf16::from_bits((x.to_bits() >> 16) as u16);
    let part = if nearest.wide().is_infinite() { cut } else { nearest };
    (part, if x.is_finite() { x - part.wide() } else { 0.0 })
}

#[inline(always)]
fn split(x: f32) -> [bf16; PARTS] {
    let (first, rest) = part(x);
    let (second, rest) = part(rest);
    [first, second, part(rest).0]
}

multiversion! {
    /// Each part of the values of `x`, one array of them after the other.
    fn split_values(parts: &mut [bf16], x: &[f32]) {
        let (first, rest) = parts.split_at_mut(x.len());
        let (second, third) = rest.split_at_mut(x.len());
        for (((&x, first), second), third) in x.iter().zip(first).zip(second).zip(third) {
            [*first, *second, *third] = split(x);
        }
    }

    /// The words of each part of `even` and `odd`, `step` words from one part to the next.
    fn split_pairs(words: &mut [f32], step: usize, even: &[f32], odd: &[f32]) {
        let (first, rest) = words.split_at_mut(step);
        let (second, third) = rest.split_at_mut(step);
        let words = first.iter_mut().zip(second).zip(third);
        for (((first, second), third), (&even, &odd)) in words.zip(even.iter().zip(odd)) {
            let (even, odd) = (split(even), split(odd));
            *first = pair(even[0], odd[0]);
            *second = pair(even[1], odd[1]);
            *third = pair(even[2], odd[2]);
        }
    }
}

/// Packs the values of each step of k as floats first, `[VALUES][width]`, zeros beyond the source.
fn steps(source: PanelSource, first: usize, width: usize, mut take: impl FnMut(usize, &[f32])) {
    let mut near = [0f32; VALUES * COLUMNS];
    let near = &mut near[..VALUES * width];
    for (step, start) in (0..source.depth).step_by(VALUES).enumerate() {
        let depth = VALUES.min(source.depth - start);
        near[depth * width..].fill(0.0);
        match first < source.width {
            true => {
                let data = &source.data[start * source.along..];
                pack_panel(near, PanelSource { data, depth, ..source }, first, width);
            }
            false => near.fill(0.0),
        }
        take(step, near);
    }
}

/// Word `d` of part `p` of number `w` at `(3 d + p) width + w`.
fn pack_pairs(panel: &mut [f32], source: PanelSource, first: usize, width: usize) {
    let line = PARTS * width;
    steps(source, first, width, |step, near| {
        let panel = &mut panel[step * SIDE * line..];
        for (lines, values) in panel.chunks_exact_mut(line).zip(near.chunks_exact(2 * width)) {
            let (even, odd) = values.split_at(width);
            split_pairs(lines, width, even, odd);
        }
    });
}

/// For each 32 values of k, tiles of 16 rows of 16 words, one a part.
fn pack_left(panel: &mut [f32], source: PanelSource, first: usize, _: usize) {
    steps(source, first, SIDE, |step, near| {
        let mut rows = [0f32; 2 * WORDS];
        for (d, line) in near.chunks_exact(SIDE).enumerate() {
            line.iter().enumerate().for_each(|(w, &x)| rows[w * VALUES + d] = x);
        }
        let tiles = &mut panel[step * PARTS * WORDS..][..PARTS * WORDS];
        split_values(bytemuck::cast_slice_mut(tiles), &rows);
    });
}

/// Two columns of tiles, each as in [`pack_left`], but of 16 pairs of values of 16 columns.
fn pack_right(panel: &mut [f32], source: PanelSource, first: usize, _: usize) {
    let half = source.depth.div_ceil(VALUES) * PARTS * WORDS;
    for (column, panel) in panel.chunks_exact_mut(half).take(2).enumerate() {
        steps(source, first + column * SIDE, SIDE, |step, near| {
            let tiles = &mut panel[step * PARTS * WORDS..][..PARTS * WORDS];
            for (d, values) in near.chunks_exact(2 * SIDE).enumerate() {
                let (even, odd) = values.split_at(SIDE);
                split_pairs(&mut tiles[d * SIDE..], WORDS, even, odd);
            }
        });
    }
}

/// See [`super::block::run`].
///
/// # Safety
/// The instructions of `V` and `T` must exist.
#[inline(always)]
unsafe fn pairs<V: Vector, T: Term<V>, const MR: usize, const NV: usize>(panels: Panels, sums: &mut [f32]) {
    let Panels { a, b, depth, rows, .. } = panels;
    let nr = NV * V::LANES;
    assert!(panels.fit(sums, MR, nr) && depth.is_multiple_of(PARTS));
    for first in (0..depth).step_by(NEAR) {
        let steps = NEAR.min(depth - first) / PARTS;
        for (b, sums) in b.chunks_exact(nr * depth).zip(sums.chunks_exact_mut(rows * MR * nr)) {
            for (a, sums) in a.chunks_exact(MR * depth).zip(sums.chunks_exact_mut(MR * nr)) {
                // SAFETY: panels hold `depth` slices of MR and NR words, and a tile of sums MR rows of NR floats.
                unsafe {
                    let (mut a, mut b) = (a.as_ptr().add(first * MR), b.as_ptr().add(first * nr));
                    let mut large = [[V::splat(0.0); NV]; MR];
                    let mut small = large;
                    for _ in 0..steps {
                        let column = |part: usize, v: usize| V::load(b.add(part * nr + v * V::LANES));
                        let columns: [[V; NV]; PARTS] =
                            std::array::from_fn(|part| std::array::from_fn(|v| column(part, v)));
                        for i in 0..MR {
                            let x: [V; PARTS] = std::array::from_fn(|part| V::splat(*a.add(part * MR + i)));
                            for v in 0..NV {
                                for (left, right) in SMALL {
                                    small[i][v] = T::add(small[i][v], x[left], columns[right][v]);
                                }
                                large[i][v] = T::add(large[i][v], x[0], columns[0][v]);
                            }
                        }
                        (a, b) = (a.wrapping_add(PARTS * MR), b.wrapping_add(PARTS * nr));
                    }
                    let one = V::splat(1.0);
                    for (i, (large, small)) in large.into_iter().zip(small).enumerate() {
                        for (v, (large, small)) in large.into_iter().zip(small).enumerate() {
                            let to = sums.as_mut_ptr().add(i * nr + v * V::LANES);
                            let sum = small.fma(one, large);
                            let sum = if first == 0 { sum } else { sum.fma(one, V::load(to)) };
                            sum.store(to);
                        }
                    }
                }
            }
        }
    }
}

/// See [`super::block::run`], on blocks of sums of 16 rows of 32 floats.
///
/// # Safety
/// The instructions of `T` must be here and allowed.
#[inline(always)]
unsafe fn tiles<T: Tiles>(panels: Panels, sums: &mut [f32]) {
    let Panels { a, b, depth, rows, .. } = panels;
    assert!(panels.fit(sums, SIDE, COLUMNS) && depth.is_multiple_of(PARTS * SIDE));
    // SAFETY: the caller's contract.
    let mut tiles = unsafe { T::configure() };
    let (mut large, mut small) = ([0f32; SIDE * COLUMNS], [0f32; SIDE * COLUMNS]);
    for first in (0..depth).step_by(NEAR) {
        let steps = NEAR.min(depth - first) / (PARTS * SIDE);
        for (b, sums) in b.chunks_exact(COLUMNS * depth).zip(sums.chunks_exact_mut(rows * SIDE * COLUMNS)) {
            let b = [0, 1].map(|half| b[(half * depth + first) * SIDE..][..steps * PARTS * WORDS].as_ptr());
            for (a, sums) in a.chunks_exact(SIDE * depth).zip(sums.chunks_exact_mut(SIDE * COLUMNS)) {
                let a = a[first * SIDE..][..steps * PARTS * WORDS].as_ptr();
                // SAFETY: a panel holds the tiles of three parts for each step.
                unsafe { six(&mut tiles, &mut large, &mut small, a, b, steps) };
                for (sum, (large, small)) in sums.iter_mut().zip(large.iter().zip(&small)) {
                    *sum = (small + large) + if first == 0 { 0.0 } else { *sum };
                }
            }
        }
    }
}

/// The large and the small sums of a column of tiles of A with two of B.
///
/// # Safety
/// A and B must hold `steps` times the tiles of three parts, and the instructions must be here and allowed.
#[inline(always)]
unsafe fn six<T: Tiles>(
    tiles: &mut T,
    large: &mut [f32; SIDE * COLUMNS],
    small: &mut [f32; SIDE * COLUMNS],
    a: *const f32,
    b: [*const f32; 2],
    steps: usize,
) {
    let (line, stride) = (SIDE * size_of::<f32>(), COLUMNS * size_of::<f32>());
    // SAFETY: the caller's contract.
    unsafe {
        tiles.zero::<0>();
        tiles.zero::<1>();
        tiles.zero::<2>();
        tiles.zero::<3>();
        for at in (0..steps).map(|step| step * PARTS * WORDS) {
            let part = |panel: *const f32, part: usize| panel.add(at + part * WORDS);
            // Left parts in 4 and 5, right ones in 6 and 7; small sums in 2 and 3.
            tiles.load::<4>(part(a, 2), line);
            tiles.load::<6>(part(b[0], 0), line);
            tiles.load::<7>(part(b[1], 0), line);
            tiles.multiply::<2, 4, 6>();
            tiles.multiply::<3, 4, 7>();
            tiles.load::<4>(part(a, 1), line);
            tiles.multiply::<2, 4, 6>();
            tiles.multiply::<3, 4, 7>();
            tiles.load::<5>(part(a, 0), line);
            tiles.multiply::<0, 5, 6>();
            tiles.multiply::<1, 5, 7>();
            tiles.load::<6>(part(b[0], 1), line);
            tiles.load::<7>(part(b[1], 1), line);
            tiles.multiply::<2, 4, 6>();
            tiles.multiply::<3, 4, 7>();
            tiles.multiply::<2, 5, 6>();
            tiles.multiply::<3, 5, 7>();
            tiles.load::<6>(part(b[0], 2), line);
            tiles.load::<7>(part(b[1], 2), line);
            tiles.multiply::<2, 5, 6>();
            tiles.multiply::<3, 5, 7>();
        }
        tiles.store::<0>(large.as_mut_ptr(), stride);
        tiles.store::<1>(large.as_mut_ptr().add(SIDE), stride);
        tiles.store::<2>(small.as_mut_ptr(), stride);
        tiles.store::<3>(small.as_mut_ptr().add(SIDE), stride);
    }
}
