//! Sums of bytes on tiles (AMX): the left operand is W where it lies, 64 values of a row in a line of a tile.

use super::block::{Block, VALUES};
use crate::device::cpu::gemm::tiles::{
    BLOCK, LINE, SIDE, Tiles, WORDS, multiply_bytes, store_sums, zero_sums,
};

/// On the tiles `T`.
pub struct OnTiles<T>(T);

impl<T: Tiles> Block for OnTiles<T> {
    const FLIPPED: u32 = 0;

    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: the caller's contract.
        OnTiles(unsafe { T::configure() })
    }

    #[inline(always)]
    unsafe fn excess(_: &mut [i32], _: &[i8]) {}

    #[inline(always)]
    unsafe fn multiply(&mut self, sums: &mut [f32], x: [&[f32]; 2], w: &[i8], _: &[i32]) {
        let k = w.len() / BLOCK;
        assert!(w.len() == BLOCK * k && k.is_multiple_of(VALUES) && sums.len() == BLOCK * BLOCK);
        assert!(x.iter().all(|column| column.len() == k / VALUES * WORDS));
        let tiles = &mut self.0;
        // SAFETY: the caller's contract; the assertions bound every tile.
        unsafe {
            zero_sums(tiles);
            for step in 0..k / VALUES {
                let upper = w.as_ptr().add(step * VALUES).cast();
                tiles.load::<4>(upper, k);
                tiles.load::<5>(upper.byte_add(SIDE * k), k);
                tiles.load::<6>(x[0].as_ptr().add(step * WORDS), LINE);
                tiles.load::<7>(x[1].as_ptr().add(step * WORDS), LINE);
                multiply_bytes(tiles);
            }
            store_sums(tiles, sums);
        }
    }
}
