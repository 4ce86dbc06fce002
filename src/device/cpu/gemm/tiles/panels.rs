//! Panels times panels on tiles.

use super::{BLOCK, SIDE, Tiles, load_sums, store_sums, zero_sums};
use crate::device::cpu::gemm::block::Panels;
use crate::device::cpu::gemm::direct::Direct;
use std::marker::PhantomData;

/// The sums of all panels of A with all panels of B: blocks of 32 rows of 32 floats, one after the other down each column
/// of blocks. `near` words are multiplied at a time, each `parts` for the same values, by `add`, which adds the products
/// of so many steps of two columns of tiles of A with two of B to the four tiles of a block.
///
/// # Safety
/// The instructions of `T` must be here and allowed, and `add` may read the tiles of its steps.
#[inline(always)]
pub(in crate::device::cpu::gemm) unsafe fn run_by<T: Tiles>(
    panels: Panels,
    sums: &mut [f32],
    near: usize,
    parts: usize,
    add: unsafe fn(&mut T, [*const f32; 2], [*const f32; 2], usize),
) {
    let Panels { a, b, depth, rows, columns, ahead, direct } = panels;
    let words = parts * SIDE;
    let a = a.packed();
    assert!(panels.fit(sums, BLOCK, BLOCK) && a.len() == rows * BLOCK * depth);
    assert!(depth.is_multiple_of(words) && direct.is_none_or(|c| c.holds(rows * BLOCK, columns * BLOCK)));
    // SAFETY: the caller's contract.
    let mut tiles = unsafe { T::configure() };
    let near = depth.div_ceil(depth.div_ceil(near)).next_multiple_of(words);
    let mut ahead = ahead.over(depth.div_ceil(near) * rows * columns);
    let mut finished = Finished::<T>::new();
    // All columns meet the same rows, so that rows of C are written one block beside the other; down the columns every row
    // of a block would wait for memory.
    for row in 0..rows {
        let a = &a[row * BLOCK * depth..][..BLOCK * depth];
        for first in (0..depth).step_by(near) {
            let steps = near.min(depth - first) / words;
            let direct = direct.filter(|_| first + near >= depth);
            for (column, b) in b.chunks_exact(BLOCK * depth).enumerate() {
                ahead.fetch();
                if let Some(c) = direct {
                    c.fetch::<BLOCK>(row * BLOCK, (column + 1) * BLOCK, BLOCK);
                }
                let columns = |panel: &[f32]| {
                    [0, 1].map(|half| panel[(half * depth + first) * SIDE..][..steps * words * SIDE].as_ptr())
                };
                let sums = &mut sums[(column * rows + row) * BLOCK * BLOCK..][..BLOCK * BLOCK];
                // SAFETY: each column holds the tiles of `steps` steps, and a block of sums four tiles; what is direct is
                // part of C.
                unsafe {
                    match first {
                        0 => zero_sums(&mut tiles),
                        _ => load_sums(&mut tiles, sums),
                    }
                    add(&mut tiles, columns(a), columns(b), steps);
                    match direct {
                        Some(c) => store_sums(&mut tiles, finished.next(c, row, column)),
                        None => store_sums(&mut tiles, sums),
                    }
                }
            }
        }
    }
    if let Some(c) = direct {
        // SAFETY: as above.
        unsafe { finished.write(c) };
    }
}

/// The last block whose sums are complete: they go to C while the next one is multiplied, so that nothing reads a tile right
/// after it was stored.
struct Finished<T> {
    sums: [Lines; 2],
    /// Which of the two it is.
    turn: usize,
    /// Its row and column of blocks.
    place: Option<(usize, usize)>,
    tiles: PhantomData<T>,
}

#[repr(C, align(64))]
struct Lines([f32; BLOCK * BLOCK]);

impl<T: Tiles> Finished<T> {
    fn new() -> Self {
        let lines = || Lines([0.0; BLOCK * BLOCK]);
        Finished { sums: [lines(), lines()], turn: 0, place: None, tiles: PhantomData }
    }

    /// Writes it to C; where the sums of the next one go, which is that of this row and column of blocks.
    ///
    /// # Safety
    /// As for [`Finished::write`].
    #[inline(always)]
    unsafe fn next(&mut self, c: Direct, row: usize, column: usize) -> &mut [f32] {
        // SAFETY: the caller's contract.
        unsafe { self.write(c) };
        self.turn = 1 - self.turn;
        self.place = Some((row, column));
        &mut self.sums[self.turn].0
    }

    /// # Safety
    /// The blocks must be part of C, and the instructions of `T` must be here.
    #[inline(always)]
    unsafe fn write(&mut self, c: Direct) {
        if let Some((row, column)) = self.place.take() {
            // SAFETY: the caller's contract.
            unsafe { c.write_rows::<T::Vector>(&self.sums[self.turn].0, BLOCK, row * BLOCK, column * BLOCK) };
        }
    }
}
