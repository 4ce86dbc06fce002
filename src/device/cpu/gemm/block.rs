//! Panels times panels on a register tile of vectors, for each vector width.

use super::ahead::Ahead;
use super::direct::Direct;
use super::left::Left;
use crate::device::cpu::microkernel::{Baseline, Floats, Strides, Term, Vector, product};
use crate::device::cpu::simd::by_level;

/// Panels: `rows` of A and `columns` of B, these packed, each `depth` words of k.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    pub a: Left<'a>,
    pub b: &'a [f32],
    pub depth: usize,
    pub rows: usize,
    pub columns: usize,
    /// What may be fetched meanwhile.
    pub ahead: Ahead<'a>,
    /// Where the last sums go instead, if all of the tiles are part of C.
    pub direct: Option<Direct<'a>>,
}

impl Panels<'_> {
    /// Whether all is there that tiles of `mr` rows and `nr` columns take and give.
    pub fn fit(&self, sums: &[f32], mr: usize, nr: usize) -> bool {
        let Panels { a, b, depth, rows, columns, .. } = *self;
        a.is(rows, mr, depth) && b.len() == columns * nr * depth && sums.len() == rows * mr * columns * nr
    }
}

/// Words of k that are multiplied at a time, so that a panel of B stays in the first-level cache while those of A pass.
const NEAR: usize = 256;

by_level! {
    /// The code for panels of floats.
    pub fn floats(panels: Panels, sums: &mut [f32]) {
        Avx512 => run::<__m512, Floats, 8, 3>(panels, sums),
        Avx2 => run::<__m256, Floats, 4, 3>(panels, sums),
        Portable => run::<Baseline, Floats, 4, 2>(panels, sums),
    }
}

/// The sums of all panels of A with all panels of B: tiles of MR rows and NV vectors, one after the other down each
/// column of tiles.
///
/// # Safety
/// The instructions of `V` and `T` must exist.
// As for the register tile itself.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
pub unsafe fn run<V: Vector, T: Term<V>, const MR: usize, const NV: usize>(panels: Panels, sums: &mut [f32]) {
    let Panels { a, b, depth, rows, columns, ahead, direct } = panels;
    let nr = NV * V::LANES;
    assert!(panels.fit(sums, MR, nr) && direct.is_none_or(|c| c.holds(rows * MR, columns * nr)));
    let near = depth.div_ceil(depth.div_ceil(NEAR));
    let mut ahead = ahead.over(depth.div_ceil(near) * rows * columns);
    for first in (0..depth).step_by(near) {
        let words = near.min(depth - first);
        let direct = direct.filter(|_| first + words == depth);
        let columns = b.chunks_exact(nr * depth).zip(sums.chunks_exact_mut(rows * MR * nr));
        for (column, (b, sums)) in columns.enumerate() {
            for (row, sums) in sums.chunks_exact_mut(MR * nr).enumerate() {
                ahead.fetch();
                if let Some(c) = direct {
                    c.fetch::<MR>((row + 1) * MR, column * nr, nr);
                }
                // SAFETY: panels hold `depth` words for each of MR rows and NR columns, and a tile of sums MR rows of NR
                // floats.
                unsafe {
                    let b = b.as_ptr().add(first * nr);
                    let mut tile = match a {
                        Left::Packed(a) => {
                            let a = a.as_ptr().add((row * depth + first) * MR);
                            product::<V, T, MR, NV>(words, a, Strides { row: 1, depth: MR }, b, nr)
                        }
                        Left::Stored { words: a, stride } => {
                            let a = a.as_ptr().add(row * MR * stride + first);
                            product::<V, T, MR, NV>(words, a, Strides { row: stride, depth: 1 }, b, nr)
                        }
                    };
                    let corner = sums.as_mut_ptr();
                    if first > 0 {
                        for i in 0..MR {
                            for v in 0..NV {
                                let sum = V::load(corner.add(i * nr + v * V::LANES));
                                tile[i][v] = tile[i][v].fma(V::splat(1.0), sum);
                            }
                        }
                    }
                    match direct {
                        Some(c) => c.write(&tile, row * MR, column * nr),
                        None => {
                            for i in 0..MR {
                                for v in 0..NV {
                                    tile[i][v].store(corner.add(i * nr + v * V::LANES));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
