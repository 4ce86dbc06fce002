//! Tiles that go from registers to C: through memory of their own they would be written twice.

use crate::device::cpu::microkernel::{LINE, Vector, prefetch};
use crate::shape::Stored;
use half::bf16;

/// Where the elements of C lie.
#[derive(Clone, Copy)]
pub enum Place {
    F32(*mut f32),
    Bf16(*mut bf16),
}

/// A part of C that nobody else writes, and what is stored in it: `alpha` times the sums, to which C or a bias is added.
#[derive(Clone, Copy)]
pub struct Direct<'a> {
    pub place: Place,
    /// Elements from one row to the next.
    pub stride: usize,
    pub alpha: f32,
    pub add: bool,
    /// One for each column, or empty.
    pub bias: &'a [f32],
    /// Whole tiles of them.
    pub rows: usize,
    pub columns: usize,
}

impl Direct<'_> {
    /// Whether so many rows and columns are part of it.
    pub fn holds(&self, rows: usize, columns: usize) -> bool {
        rows <= self.rows && columns <= self.columns
    }

    /// Asks for what a tile of MR rows and `nr` columns will be stored to, or for nothing where there is none.
    #[inline(always)]
    pub fn fetch<const MR: usize>(&self, row: usize, column: usize, nr: usize) {
        if row >= self.rows {
            return;
        }
        let (start, size) = match self.place {
            Place::F32(c) => (c as *const u8, size_of::<f32>()),
            Place::Bf16(c) => (c as *const u8, size_of::<bf16>()),
        };
        for i in 0..MR {
            let from = start.wrapping_add(((row + i) * self.stride + column) * size);
            for at in (0..nr * size).step_by(LINE) {
                prefetch(from.wrapping_add(at));
            }
        }
    }

    /// Stores a tile whose first sum is that of `row` and `column`, rounded as through memory.
    ///
    /// # Safety
    /// The tile must be part of C, and the instructions of `V` must exist.
    // As for the register tile itself.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    pub(in crate::device::cpu) unsafe fn write<V: Vector, const MR: usize, const NV: usize>(
        &self,
        tile: &[[V; NV]; MR],
        row: usize,
        column: usize,
    ) {
        for i in 0..MR {
            for v in 0..NV {
                let column = column + v * V::LANES;
                let at = (row + i) * self.stride + column;
                // SAFETY: the caller's contract; a bias has one for each column.
                unsafe {
                    // A negative zero is the one number that, when added, changes no other, a zero's sign included.
                    let sum = tile[i][v].fma(V::splat(self.alpha), V::splat(-0.0));
                    let sum = match (self.add, self.bias) {
                        (false, []) => sum,
                        (false, bias) => sum.fma(V::splat(1.0), V::load(bias.as_ptr().add(column))),
                        (true, _) => sum.fma(V::splat(1.0), self.load(at)),
                    };
                    self.store(at, sum);
                }
            }
        }
    }

    /// As [`Direct::write`], of sums in memory: rows of `width` of them, whole vectors.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(in crate::device::cpu) unsafe fn write_rows<V: Vector>(
        &self,
        sums: &[f32],
        width: usize,
        row: usize,
        column: usize,
    ) {
        assert!(width.is_multiple_of(V::LANES));
        for (i, sums) in sums.chunks_exact(width).enumerate() {
            for at in (0..width).step_by(V::LANES) {
                // SAFETY: the caller's contract; a row has so many vectors.
                unsafe {
                    let vector = V::load(sums.as_ptr().add(at));
                    self.write::<V, 1, 1>(&[[vector]], row + i, column + at);
                }
            }
        }
    }

    /// # Safety
    /// As for [`Direct::write`]; the elements from `at` on are C's.
    #[inline(always)]
    unsafe fn load<V: Vector>(&self, at: usize) -> V {
        // SAFETY: the caller's contract.
        unsafe {
            match self.place {
                Place::F32(c) => V::load(c.add(at)),
                Place::Bf16(c) => V::load_bf16(c.add(at)),
            }
        }
    }

    /// # Safety
    /// As for [`Direct::load`].
    #[inline(always)]
    unsafe fn store<V: Vector>(&self, at: usize, sum: V) {
        /// Lanes of the longest vectors.
        const MOST: usize = 16;
        // SAFETY: the caller's contract.
        unsafe {
            match self.place {
                Place::F32(c) => sum.store(c.add(at)),
                Place::Bf16(c) => {
                    let mut lanes = [0.0; MOST];
                    sum.store(lanes.as_mut_ptr());
                    for (lane, &sum) in lanes[..V::LANES].iter().enumerate() {
                        c.add(at + lane).write(bf16::narrow(sum));
                    }
                }
            }
        }
    }
}
