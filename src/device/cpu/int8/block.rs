//! What multiplies a block: some rows of W with some of x, which are packed as the instructions take them.

use crate::device::cpu::gemm::tiles::LINE;

/// Values of a row in a tile.
pub const VALUES: usize = LINE;

/// What multiplies two columns of tiles of x with a block of rows of W.
pub trait Block {
    /// Bits that x has flipped in every word.
    const FLIPPED: u32;

    /// # Safety
    /// The instructions must exist, and nothing else may use their state before the value is dropped.
    unsafe fn new() -> Self;

    /// What every sum with each row of W has too much, for what is flipped in x.
    ///
    /// # Safety
    /// The instructions must exist.
    unsafe fn excess(to: &mut [i32], w: &[i8]);

    /// Assigns the sums, a line of integers for each row of W.
    ///
    /// # Safety
    /// As for `new`.
    unsafe fn multiply(&mut self, sums: &mut [f32], x: [&[f32]; 2], w: &[i8], excess: &[i32]);
}
