//! Products of pairs of bf16 on tiles of the processor (AMX).
//!
//! Operands lie as tiles take them: a line of a left one has the pairs of a row, and one of a right one a pair of each
//! column. Only a left operand whose rows run down its columns is transposed first.

use super::tile::{Extent, Multiply, Rows, SIDE, Vectors};
use crate::device::cpu::gemm::tiles::pack::transpose;
use crate::device::cpu::gemm::tiles::{self, Tiles};
use crate::device::cpu::microkernel::{Baseline, Strides, Term};
use std::arch::x86_64::*;

/// Words of the depth of a left operand that is transposed, at most: those of the keys of a tile.
const DEPTH: usize = SIDE / 2;

/// Products on the tiles `T`; what is left of a depth that is not a whole number of tiles is multiplied on vectors.
pub struct OnTiles<T: Tiles> {
    tiles: T,
    lines: [f32; SIDE * DEPTH],
    rest: Vectors<T::Vector, Halves, 4>,
}

impl<T: Tiles> Multiply for OnTiles<T>
where
    Halves: Term<T::Vector>,
{
    const ROWS: usize = tiles::SIDE;

    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: the caller's contract.
        unsafe { OnTiles { tiles: T::configure(), lines: [0.0; SIDE * DEPTH], rest: Vectors::new() } }
    }

    #[inline(always)]
    unsafe fn multiply<const ADD: bool>(
        &mut self,
        (c, c_stride): Rows,
        a: &[f32],
        strides: Strides,
        (b, b_stride): (&[f32], usize),
        extent: Extent,
    ) {
        let whole = extent.depth - extent.depth % tiles::SIDE;
        if whole > 0 {
            let extent = Extent { depth: whole, ..extent };
            let (a, stride) = in_rows(&mut self.lines, a, strides, extent);
            // SAFETY: the caller's contract.
            unsafe { on_tiles::<T, ADD>(&mut self.tiles, (c, c_stride), (a, stride), (b, b_stride), extent) };
        }
        if whole == 0 || whole < extent.depth {
            let (a, b) = (&a[whole * strides.depth..], (&b[whole * b_stride..], b_stride));
            let extent = Extent { depth: extent.depth - whole, ..extent };
            // SAFETY: the caller's contract.
            unsafe {
                match ADD || whole > 0 {
                    true => self.rest.multiply::<true>((c, c_stride), a, strides, b, extent),
                    false => self.rest.multiply::<false>((c, c_stride), a, strides, b, extent),
                }
            }
        }
    }
}

/// A left operand with its rows in one piece each, and the words from one to the next; `lines` hold them where they are not.
#[inline(always)]
fn in_rows<'a>(
    lines: &'a mut [f32; SIDE * DEPTH],
    a: &'a [f32],
    strides: Strides,
    extent: Extent,
) -> (&'a [f32], usize) {
    if strides.depth == 1 {
        return (a, strides.row);
    }
    assert!(strides.row == 1 && extent.rows <= SIDE && extent.depth <= DEPTH);
    for row in (0..extent.rows).step_by(tiles::SIDE) {
        for word in (0..extent.depth).step_by(tiles::SIDE) {
            let from = &a[word * strides.depth + row..];
            transpose(&mut lines[row * DEPTH + word..], DEPTH, from, strides.depth);
        }
    }
    (lines, DEPTH)
}

/// As [`Multiply::multiply`], of rows of words, where the depth is a whole number of tiles.
///
/// # Safety
/// The tiles must be configured.
#[inline(always)]
unsafe fn on_tiles<T: Tiles, const ADD: bool>(
    tiles: &mut T,
    (c, c_stride): Rows,
    (a, a_stride): (&[f32], usize),
    (b, b_stride): (&[f32], usize),
    extent: Extent,
) {
    use tiles::SIDE;
    let (rows, columns) = (extent.rows.next_multiple_of(SIDE), extent.columns.next_multiple_of(SIDE));
    let depth = extent.depth;
    assert!(rows == 0 || (rows - 1) * c_stride + columns <= c.len());
    assert!(rows == 0 || (rows - 1) * a_stride + depth <= a.len());
    assert!(depth.is_multiple_of(SIDE) && (depth == 0 || (depth - 1) * b_stride + columns <= b.len()));
    let [a_bytes, b_bytes, c_bytes] = [a_stride, b_stride, c_stride].map(|words| words * size_of::<f32>());
    for j in (0..columns).step_by(2 * SIDE) {
        for i in (0..rows).step_by(2 * SIDE) {
            // At the edges a block is one tile high, or one wide.
            let (tall, wide) = (i + SIDE < rows, j + SIDE < columns);
            let corner = c[i * c_stride + j..].as_mut_ptr();
            let below = corner.wrapping_add(SIDE * c_stride);
            // SAFETY: the assertions bound every tile.
            unsafe {
                if ADD {
                    tiles.load::<0>(corner, c_bytes);
                    if wide {
                        tiles.load::<1>(corner.add(SIDE), c_bytes);
                    }
                    if tall {
                        tiles.load::<2>(below, c_bytes);
                    }
                    if tall && wide {
                        tiles.load::<3>(below.add(SIDE), c_bytes);
                    }
                } else {
                    tiles::zero_sums(tiles);
                }
                for word in (0..depth).step_by(SIDE) {
                    let left = a.as_ptr().add(i * a_stride + word);
                    let right = b.as_ptr().add(word * b_stride + j);
                    tiles.load::<4>(left, a_bytes);
                    tiles.load::<6>(right, b_bytes);
                    tiles.multiply::<0, 4, 6>();
                    if wide {
                        tiles.load::<7>(right.add(SIDE), b_bytes);
                        tiles.multiply::<1, 4, 7>();
                    }
                    if tall {
                        tiles.load::<5>(left.add(SIDE * a_stride), a_bytes);
                        tiles.multiply::<2, 5, 6>();
                    }
                    if tall && wide {
                        tiles.multiply::<3, 5, 7>();
                    }
                }
                tiles.store::<0>(corner, c_bytes);
                if wide {
                    tiles.store::<1>(corner.add(SIDE), c_bytes);
                }
                if tall {
                    tiles.store::<2>(below, c_bytes);
                }
                if tall && wide {
                    tiles.store::<3>(below.add(SIDE), c_bytes);
                }
            }
        }
    }
}

/// Lanes are pairs of bf16 that are widened; the even ones are multiplied and added before the odd ones.
pub struct Halves;

// SAFETY: instructions of AVX-512 F, as those of the vector.
unsafe impl Term<__m512> for Halves {
    #[inline(always)]
    unsafe fn add(sum: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe {
            let [even_a, even_b] =
                [a, b].map(|x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(x))));
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            let [odd_a, odd_b] =
                [a, b].map(|x| _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), upper)));
            _mm512_fmadd_ps(odd_a, odd_b, _mm512_fmadd_ps(even_a, even_b, sum))
        }
    }
}

// SAFETY: plain Rust.
unsafe impl Term<Baseline> for Halves {
    #[inline(always)]
    unsafe fn add(sum: Baseline, a: Baseline, b: Baseline) -> Baseline {
        let odd = |x: u32| f32::from_bits(x & 0xffff_0000);
        sum.with_each(a, b, |sum, a, b| odd(a).mul_add(odd(b), odd(a << 16).mul_add(odd(b << 16), sum)))
    }
}
