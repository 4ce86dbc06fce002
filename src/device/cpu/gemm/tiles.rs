//! Products of bf16 on tiles (AMX): a tile holds 16 rows of 16 words, and an instruction adds the product of two tiles
//! to a third, 8,192 multiply-adds.
//!
//! A panel is two columns of tiles, one after the other, padded with zeros.

pub(in crate::device::cpu) mod pack;
pub(super) mod panels;
mod registers;
#[cfg(test)]
mod tests;
mod twin;

use super::block::Panels;
use super::product::{PASS, Product};
use crate::device::cpu::features::{Feature, has};
use crate::device::cpu::microkernel::Vector;
use half::bf16;
pub(in crate::device::cpu) use registers::Registers;
pub(in crate::device::cpu) use twin::Twin;

/// Rows of a tile, and words in each.
pub(in crate::device::cpu) const SIDE: usize = 16;
pub(in crate::device::cpu) const WORDS: usize = SIDE * SIDE;
/// Values of k in a line of a tile.
const VALUES: usize = 2 * SIDE;
/// Bytes from one line of a packed tile to the next.
pub(in crate::device::cpu) const LINE: usize = SIDE * size_of::<f32>();
/// Rows and columns of four tiles of sums, and bytes from one line of them to the next.
pub(in crate::device::cpu) const BLOCK: usize = 2 * SIDE;
const BLOCK_LINE: usize = BLOCK * size_of::<f32>();
/// Words of k that are multiplied at a time, so that a panel of A stays in the first-level cache while those of B pass.
const NEAR: usize = 192;
/// Words of B for a task: the cores that have tiles have 2 MiB of second-level cache.
pub(super) const RIGHT: usize = 320 << 10;

/// The instructions, each with the numbers of its registers; dropping the value releases the tiles.
///
/// # Safety
/// Pointers must reach 16 rows of 64 bytes, `stride` bytes apart.
pub(in crate::device::cpu) unsafe trait Tiles {
    /// The vectors that what tiles have summed is computed with.
    type Vector: Vector;
    /// All eight registers as 16 rows of 64 bytes.
    ///
    /// # Safety
    /// The instructions must be here, and the kernel must have allowed them.
    unsafe fn configure() -> Self;
    unsafe fn zero<const T: u8>(&mut self);
    unsafe fn load<const T: u8>(&mut self, from: *const f32, stride: usize);
    /// As `load`, of a packed tile that is not needed again soon.
    unsafe fn pass<const T: u8>(&mut self, from: *const f32);
    unsafe fn store<const T: u8>(&mut self, to: *mut f32, stride: usize);
    /// Adds the product of the bf16 tiles A and B to the f32 tile C.
    unsafe fn multiply<const C: u8, const A: u8, const B: u8>(&mut self);
    /// As `multiply`, of tiles of bytes with a sign, to one of integers.
    ///
    /// # Safety
    /// The processor must have these, too.
    unsafe fn multiply_bytes<const C: u8, const A: u8, const B: u8>(&mut self);
}

/// Whether the twin takes the place of the processor's tiles.
pub fn on_twin() -> bool {
    has(Feature::AmxTwin)
}

/// The product where `features` reports AMX.
pub fn product() -> Product<bf16> {
    match on_twin() {
        true => with("tiles of bf16 (AMX's twin)", run::<Twin>),
        false => with("tiles of bf16 (AMX)", run_on_registers),
    }
}

/// `steps` rounds of products of tiles of zeros in registers, where `features` reports AMX: how many multiply-adds, and
/// what they sum to.
pub fn rounds(steps: usize) -> (u64, f32) {
    rounds_of::<false>(steps)
}

/// As [`rounds`], of bytes.
pub fn rounds_of_bytes(steps: usize) -> (u64, f32) {
    rounds_of::<true>(steps)
}

fn rounds_of<const BYTES: bool>(steps: usize) -> (u64, f32) {
    // SAFETY: the caller has seen that the instructions are here and allowed.
    unsafe {
        match on_twin() {
            true => rounds_on::<Twin, BYTES>(steps),
            false => rounds_on::<Registers, BYTES>(steps),
        }
    }
}

/// # Safety
/// The instructions of `T` must be here and allowed.
unsafe fn rounds_on<T: Tiles, const BYTES: bool>(steps: usize) -> (u64, f32) {
    let mut sums = [0f32; WORDS];
    // SAFETY: the caller's contract; a tile is as large as the sums.
    unsafe {
        let mut tiles = T::configure();
        zero_sums(&mut tiles);
        tiles.zero::<4>();
        tiles.zero::<5>();
        tiles.zero::<6>();
        tiles.zero::<7>();
        for _ in 0..steps {
            match BYTES {
                true => multiply_bytes(&mut tiles),
                false => multiply(&mut tiles),
            }
        }
        tiles.store::<0>(sums.as_mut_ptr(), SIDE * size_of::<f32>());
    }
    let values_in_a_word = if BYTES { 4 } else { 2 };
    ((4 * steps * values_in_a_word * WORDS * SIDE) as u64, sums.iter().sum())
}

fn with(name: &'static str, run: unsafe fn(Panels, &mut [f32])) -> Product<bf16> {
    Product {
        name,
        mr: BLOCK,
        nr: BLOCK,
        values: 2,
        multiple: SIDE,
        parts: 1,
        depth: PASS,
        right: RIGHT,
        reads_stored: false,
        direct: true,
        pack_left: pack::left,
        pack_right: pack::right,
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

/// See [`panels::run_by`].
///
/// # Safety
/// The instructions of `T` must be here and allowed.
#[inline(always)]
unsafe fn run<T: Tiles>(panels: Panels, sums: &mut [f32]) {
    // SAFETY: the caller's contract; `one` takes what its panels hold.
    unsafe { panels::run_by(panels, sums, NEAR, 1, one::<T>) }
}

/// The product of two columns of tiles of A with two of B, added to the sums in the registers.
///
/// # Safety
/// A and B must hold `steps` tiles, and the instructions must be here and allowed.
#[inline(always)]
unsafe fn one<T: Tiles>(tiles: &mut T, a: [*const f32; 2], b: [*const f32; 2], steps: usize) {
    for at in (0..steps).map(|step| step * WORDS) {
        // SAFETY: the caller's contract.
        unsafe {
            load_right(tiles, b.map(|x| x.add(at)));
            load_left(tiles, a.map(|x| x.add(at)));
            multiply(tiles);
        }
    }
}

/// Two tiles of a left operand, to the registers that [`multiply`] takes them from.
///
/// # Safety
/// The pointers must reach tiles, and the instructions must be here and allowed.
#[inline(always)]
pub(super) unsafe fn load_left<T: Tiles>(tiles: &mut T, a: [*const f32; 2]) {
    // SAFETY: the caller's contract.
    unsafe {
        tiles.load::<4>(a[0], LINE);
        tiles.load::<5>(a[1], LINE);
    }
}

/// As [`load_left`], of a right operand.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn load_right<T: Tiles>(tiles: &mut T, b: [*const f32; 2]) {
    // SAFETY: the caller's contract.
    unsafe {
        tiles.pass::<6>(b[0]);
        tiles.pass::<7>(b[1]);
    }
}

/// Adds the products of the two left tiles with the two right ones to the four tiles of sums.
///
/// # Safety
/// The instructions must be here and allowed.
#[inline(always)]
pub(super) unsafe fn multiply<T: Tiles>(tiles: &mut T) {
    // SAFETY: the caller's contract.
    unsafe {
        tiles.multiply::<0, 4, 6>();
        tiles.multiply::<1, 4, 7>();
        tiles.multiply::<2, 5, 6>();
        tiles.multiply::<3, 5, 7>();
    }
}

/// As [`multiply`], of bytes.
///
/// # Safety
/// As there, and the processor must have these, too.
#[inline(always)]
pub(in crate::device::cpu) unsafe fn multiply_bytes<T: Tiles>(tiles: &mut T) {
    // SAFETY: the caller's contract.
    unsafe {
        tiles.multiply_bytes::<0, 4, 6>();
        tiles.multiply_bytes::<1, 4, 7>();
        tiles.multiply_bytes::<2, 5, 6>();
        tiles.multiply_bytes::<3, 5, 7>();
    }
}

/// Nothing in the four tiles of sums that [`multiply`] adds to.
///
/// # Safety
/// The tiles must be configured.
#[inline(always)]
pub(in crate::device::cpu) unsafe fn zero_sums<T: Tiles>(tiles: &mut T) {
    // SAFETY: the caller's contract.
    unsafe {
        tiles.zero::<0>();
        tiles.zero::<1>();
        tiles.zero::<2>();
        tiles.zero::<3>();
    }
}

/// A block of sums to those four tiles.
///
/// # Safety
/// The tiles must be configured, and the sums be those of a block.
#[inline(always)]
unsafe fn load_sums<T: Tiles>(tiles: &mut T, sums: &[f32]) {
    let corner = sums.as_ptr();
    // SAFETY: the caller's contract.
    unsafe {
        tiles.load::<0>(corner, BLOCK_LINE);
        tiles.load::<1>(corner.add(SIDE), BLOCK_LINE);
        tiles.load::<2>(corner.add(SIDE * BLOCK), BLOCK_LINE);
        tiles.load::<3>(corner.add(SIDE * BLOCK + SIDE), BLOCK_LINE);
    }
}

/// As [`load_sums`], the other way.
///
/// # Safety
/// As there.
#[inline(always)]
pub(in crate::device::cpu) unsafe fn store_sums<T: Tiles>(tiles: &mut T, sums: &mut [f32]) {
    let corner = sums.as_mut_ptr();
    // SAFETY: the caller's contract.
    unsafe {
        tiles.store::<0>(corner, BLOCK_LINE);
        tiles.store::<1>(corner.add(SIDE), BLOCK_LINE);
        tiles.store::<2>(corner.add(SIDE * BLOCK), BLOCK_LINE);
        tiles.store::<3>(corner.add(SIDE * BLOCK + SIDE), BLOCK_LINE);
    }
}
