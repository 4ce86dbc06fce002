//! Products of bf16 on tiles (AMX): a tile holds 16 rows of 16 words, and an instruction adds the product of two tiles
//! to a third, 8,192 multiply-adds.
//!
//! A panel is two columns of tiles, one after the other; a tile of a left panel holds 16 rows of 32 values of k, one of a
//! right panel 16 pairs of values of k of 16 columns. Both are padded with zeros.

mod registers;
#[cfg(test)]
pub(super) mod tests;

use super::block::Panels;
use super::product::Product;
use crate::device::cpu::pack::{PanelSource, pack_pairs};
use half::bf16;
pub(super) use registers::Registers;

/// Rows of a tile, and words in each.
pub(super) const SIDE: usize = 16;
pub(super) const WORDS: usize = SIDE * SIDE;
/// Values of k in a row of a left tile.
pub(super) const VALUES: usize = 2 * SIDE;
/// Rows and columns of four tiles of sums.
const BLOCK: usize = 2 * SIDE;
/// Words of k that are multiplied at a time, so that a panel of B stays in the first-level cache while those of A pass.
const NEAR: usize = 256;

/// The instructions, each with the numbers of its registers; dropping the value releases the tiles.
///
/// # Safety
/// Pointers must reach 16 rows of 64 bytes, `stride` bytes apart.
pub(super) unsafe trait Tiles {
    /// All eight registers as 16 rows of 64 bytes.
    ///
    /// # Safety
    /// The instructions must be here, and the kernel must have allowed them.
    unsafe fn configure() -> Self;
    unsafe fn zero<const T: u8>(&mut self);
    unsafe fn load<const T: u8>(&mut self, from: *const f32, stride: usize);
    unsafe fn store<const T: u8>(&mut self, to: *mut f32, stride: usize);
    /// Adds the product of the bf16 tiles A and B to the f32 tile C.
    unsafe fn multiply<const C: u8, const A: u8, const B: u8>(&mut self);
}

/// The product where `features` reports AMX.
pub fn product() -> Product<bf16> {
    with(run_on_registers)
}

/// `steps` rounds of products of tiles of zeros in registers, where `features` reports AMX: how many multiply-adds, and
/// what they sum to.
pub fn rounds(steps: usize) -> (u64, f32) {
    // SAFETY: the caller has seen that the instructions are here and allowed.
    unsafe { rounds_on::<Registers>(steps) }
}

/// # Safety
/// The instructions of `T` must be here and allowed.
unsafe fn rounds_on<T: Tiles>(steps: usize) -> (u64, f32) {
    let mut sums = [0f32; WORDS];
    // SAFETY: the caller's contract; a tile is as large as the sums.
    unsafe {
        let mut tiles = T::configure();
        tiles.zero::<0>();
        tiles.zero::<1>();
        tiles.zero::<2>();
        tiles.zero::<3>();
        tiles.zero::<4>();
        tiles.zero::<5>();
        tiles.zero::<6>();
        tiles.zero::<7>();
        for _ in 0..steps {
            tiles.multiply::<0, 4, 6>();
            tiles.multiply::<1, 4, 7>();
            tiles.multiply::<2, 5, 6>();
            tiles.multiply::<3, 5, 7>();
        }
        tiles.store::<0>(sums.as_mut_ptr(), SIDE * size_of::<f32>());
    }
    ((4 * steps * 2 * WORDS * SIDE) as u64, sums.iter().sum())
}

fn with(run: unsafe fn(Panels, &mut [f32])) -> Product<bf16> {
    Product {
        name: "tiles of bf16 (AMX)",
        mr: BLOCK,
        nr: BLOCK,
        values: 2,
        multiple: SIDE,
        parts: 1,
        pack_left,
        pack_right,
        run,
    }
}

/// # Safety
/// As for [`run`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn run_on_registers(panels: Panels, sums: &mut [f32]) {
    // SAFETY: the caller's contract.
    unsafe { run::<Registers>(panels, sums) }
}

/// Packs rows `first .. first + width` of a left operand.
fn pack_left(panel: &mut [f32], source: PanelSource<bf16>, first: usize, width: usize) {
    let PanelSource { data, across, along, depth, .. } = source;
    let words = depth.div_ceil(VALUES) * SIDE;
    let values: &mut [bf16] = bytemuck::cast_slice_mut(&mut panel[..words * width]);
    for (half, tiles) in values.chunks_exact_mut(2 * words * SIDE).enumerate() {
        for (block, tile) in tiles.chunks_exact_mut(2 * WORDS).enumerate() {
            let taken = VALUES.min(depth - block * VALUES);
            for (i, row) in tile.chunks_exact_mut(VALUES).enumerate() {
                let w = first + half * SIDE + i;
                if w >= source.width {
                    row.fill(bf16::ZERO);
                    continue;
                }
                let from = &data[w * across + block * VALUES * along..];
                match along {
                    1 => row[..taken].copy_from_slice(&from[..taken]),
                    _ => (0..taken).for_each(|d| row[d] = from[d * along]),
                }
                row[taken..].fill(bf16::ZERO);
            }
        }
    }
}

/// Packs columns `first .. first + width` of a right operand.
fn pack_right(panel: &mut [f32], source: PanelSource<bf16>, first: usize, width: usize) {
    let words = source.depth.div_ceil(VALUES) * SIDE;
    let filled = source.depth.div_ceil(2);
    for (half, tiles) in panel[..words * width].chunks_exact_mut(words * SIDE).enumerate() {
        let first = first + half * SIDE;
        if first >= source.width {
            tiles.fill(0.0);
            continue;
        }
        pack_pairs(tiles, source, first, SIDE);
        tiles[filled * SIDE..].fill(0.0);
    }
}

/// The sums of all panels of A with all panels of B: blocks of 32 rows of 32 floats, one after the other down each column
/// of blocks.
///
/// # Safety
/// The instructions of `T` must be here and allowed.
#[inline(always)]
unsafe fn run<T: Tiles>(panels: Panels, sums: &mut [f32]) {
    let Panels { a, b, depth, rows, .. } = panels;
    assert!(panels.fit(sums, BLOCK, BLOCK) && depth.is_multiple_of(SIDE));
    // SAFETY: the caller's contract.
    let mut tiles = unsafe { T::configure() };
    let near = depth.div_ceil(depth.div_ceil(NEAR)).next_multiple_of(SIDE);
    for first in (0..depth).step_by(near) {
        let steps = near.min(depth - first) / SIDE;
        for (b, sums) in b.chunks_exact(BLOCK * depth).zip(sums.chunks_exact_mut(rows * BLOCK * BLOCK)) {
            for (a, sums) in a.chunks_exact(BLOCK * depth).zip(sums.chunks_exact_mut(BLOCK * BLOCK)) {
                let columns = |panel: &[f32]| {
                    [0, 1].map(|half| panel[(half * depth + first) * SIDE..][..steps * WORDS].as_ptr())
                };
                // SAFETY: each column holds the tiles of `steps` steps, and a block of sums four tiles.
                unsafe { multiply(&mut tiles, sums.as_mut_ptr(), first > 0, columns(a), columns(b), steps) };
            }
        }
    }
}

/// Two columns of tiles of A against two of B: the four tiles of a block of sums, new or added to what is there.
///
/// # Safety
/// A, B and the sums must hold what the tiles name, and the instructions must be here and allowed.
#[inline(always)]
unsafe fn multiply<T: Tiles>(
    tiles: &mut T,
    sums: *mut f32,
    add: bool,
    a: [*const f32; 2],
    b: [*const f32; 2],
    steps: usize,
) {
    let (line, stride) = (SIDE * size_of::<f32>(), BLOCK * size_of::<f32>());
    let corner = |row: usize, column: usize| sums.wrapping_add(row * SIDE * BLOCK + column * SIDE);
    // SAFETY: the caller's contract.
    unsafe {
        if add {
            tiles.load::<0>(corner(0, 0), stride);
            tiles.load::<1>(corner(0, 1), stride);
            tiles.load::<2>(corner(1, 0), stride);
            tiles.load::<3>(corner(1, 1), stride);
        } else {
            tiles.zero::<0>();
            tiles.zero::<1>();
            tiles.zero::<2>();
            tiles.zero::<3>();
        }
        for at in (0..steps).map(|step| step * WORDS) {
            tiles.load::<6>(b[0].add(at), line);
            tiles.load::<4>(a[0].add(at), line);
            tiles.multiply::<0, 4, 6>();
            tiles.load::<7>(b[1].add(at), line);
            tiles.multiply::<1, 4, 7>();
            tiles.load::<5>(a[1].add(at), line);
            tiles.multiply::<2, 5, 6>();
            tiles.multiply::<3, 5, 7>();
        }
        tiles.store::<0>(corner(0, 0), stride);
        tiles.store::<1>(corner(0, 1), stride);
        tiles.store::<2>(corner(1, 0), stride);
        tiles.store::<3>(corner(1, 1), stride);
    }
}
