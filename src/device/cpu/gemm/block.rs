//! One task of a product: a tile of C from packed panels, for each vector width.

use super::Store;
use crate::device::cpu::microkernel::{Baseline, Strides, Vector, product};
use crate::device::cpu::simd::{Level, by_level, level};

/// One task: a tile of C from packed panels.
pub struct Tile {
    pub c: *mut f32,
    pub c_stride: usize,
    /// Valid rows and columns of the tile.
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub alpha: f32,
    pub store: Store,
}

/// A register tile size with the code that multiplies panels of it.
pub struct Kernel {
    pub mr: usize,
    pub nr: usize,
    pub run: unsafe fn(&Tile, &[f32], &[f32]),
}

pub fn kernel() -> Kernel {
    let (mr, nr) = match level() {
        Level::Avx512 => (8, 32),
        Level::Avx2 => (4, 24),
        Level::Portable => (4, 8),
    };
    Kernel { mr, nr, run: run_on(level()) }
}

by_level! {
    fn run_on(tile: &Tile, a: &[f32], b: &[f32]) {
        Avx512 => run::<__m512, 8, 2>(tile, a, b),
        Avx2 => run::<__m256, 4, 3>(tile, a, b),
        Portable => run::<Baseline, 4, 2>(tile, a, b),
    }
}

/// Multiplies all panels of `a` with all panels of `b`.
///
/// # Safety
/// `tile.c` must own `rows` rows of `columns` floats, and the instructions of `V` must exist.
#[inline(always)]
unsafe fn run<V: Vector, const MR: usize, const NV: usize>(tile: &Tile, a: &[f32], b: &[f32]) {
    let nr = NV * V::LANES;
    let packed = Strides { row: 1, depth: MR };
    // A panel of A stays in the first-level cache while those of B stream past it.
    for (i, panel_a) in (0..tile.rows).step_by(MR).zip(a.chunks_exact(MR * tile.depth)) {
        for (j, panel_b) in (0..tile.columns).step_by(nr).zip(b.chunks_exact(nr * tile.depth)) {
            // SAFETY: packed panels hold `depth` slices of MR and NR floats; stores stay inside the
            // valid part of the tile, which the caller owns.
            unsafe {
                let acc: [[V; NV]; MR] = product(tile.depth, panel_a.as_ptr(), packed, panel_b.as_ptr(), nr);
                let c = tile.c.add(i * tile.c_stride + j);
                if i + MR <= tile.rows && j + nr <= tile.columns {
                    store_full(acc, c, tile);
                } else {
                    store_edge(acc, c, tile, tile.rows - i, tile.columns - j);
                }
            }
        }
    }
}

/// # Safety
/// `c` must own MR rows of NV vectors at the tile's stride.
#[inline(always)]
unsafe fn store_full<V: Vector, const MR: usize, const NV: usize>(
    acc: [[V; NV]; MR],
    c: *mut f32,
    tile: &Tile,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let (alpha, zero) = (V::splat(tile.alpha), V::splat(0.0));
        for (i, row) in acc.into_iter().enumerate() {
            for (v, sum) in row.into_iter().enumerate() {
                let to = c.add(i * tile.c_stride + v * V::LANES);
                let old = if tile.store == Store::Add { V::load(to) } else { zero };
                sum.fma(alpha, old).store(to);
            }
        }
    }
}

/// # Safety
/// `c` must own the first `rows` rows and `columns` columns of the register tile.
#[inline(always)]
unsafe fn store_edge<V: Vector, const MR: usize, const NV: usize>(
    acc: [[V; NV]; MR],
    c: *mut f32,
    tile: &Tile,
    rows: usize,
    columns: usize,
) {
    let mut line = [0.0f32; 32];
    for (i, row) in acc.into_iter().enumerate().take(rows) {
        for (v, sum) in row.into_iter().enumerate() {
            // SAFETY: NV vectors are at most 32 floats.
            unsafe { sum.store(line.as_mut_ptr().add(v * V::LANES)) }
        }
        for (j, &x) in line.iter().enumerate().take(columns.min(NV * V::LANES)) {
            // SAFETY: row i and column j are inside the caller's part.
            let to = unsafe { &mut *c.add(i * tile.c_stride + j) };
            let old = if tile.store == Store::Add { *to } else { 0.0 };
            *to = x * tile.alpha + old;
        }
    }
}
