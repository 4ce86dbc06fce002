//! Products of f32 on tiles of bf16: a value is the sum of three bf16, exact to a few units in its last place, and of the
//! nine products of parts the six large ones are summed (Henry et al. 2019, arXiv 1904.06376), of the values that stand in
//! the first-level cache the five small ones before the largest, so that they are not lost in its sum.
//!
//! A panel is two columns of tiles, those of the three parts of the same values one after the other, the largest first.

#[cfg(test)]
mod tests;

use super::block::Panels;
use super::product::Product;
use super::tiles::{self, BLOCK, RIGHT, Registers, SIDE, Tiles, Twin, WORDS, pack};

/// Parts of a value.
const PARTS: usize = <f32 as pack::Words>::PARTS;
/// Words of k that are multiplied at a time, as for bf16.
const NEAR: usize = PARTS * 80;
/// Words of k in a pass over C. A value takes three times what it does in bf16, so that few columns of B would fit a cache
/// for long passes, and A would be read for each few of them.
const DEPTH: usize = PARTS * 256;

/// The product where `features` reports AMX.
pub fn product() -> Product<f32> {
    match tiles::on_twin() {
        true => with("six products of bf16 parts (AMX's twin)", run::<Twin>),
        false => with("six products of bf16 parts (AMX)", run_on_registers),
    }
}

fn with(name: &'static str, run: unsafe fn(Panels, &mut [f32])) -> Product<f32> {
    Product {
        name,
        mr: BLOCK,
        nr: BLOCK,
        values: 2,
        multiple: SIDE,
        parts: PARTS,
        depth: DEPTH,
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

/// See [`tiles::panels::run_by`].
///
/// # Safety
/// The instructions of `T` must be here and allowed.
#[inline(always)]
unsafe fn run<T: Tiles>(panels: Panels, sums: &mut [f32]) {
    // SAFETY: the caller's contract; `six` takes what its panels hold.
    unsafe { tiles::panels::run_by(panels, sums, NEAR, PARTS, six::<T>) }
}

/// Two columns of tiles of A against two of B: to the four tiles of sums in the registers, the six products of parts.
///
/// # Safety
/// A and B must hold `steps` times the tiles of three parts, and the instructions must be here and allowed.
#[inline(always)]
unsafe fn six<T: Tiles>(registers: &mut T, a: [*const f32; 2], b: [*const f32; 2], steps: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        for at in (0..steps).map(|step| step * PARTS * WORDS) {
            let part = |columns: [*const f32; 2], part: usize| columns.map(|x| x.add(at + part * WORDS));
            // Each product shares the tiles of one operand with the one before.
            tiles::load_left(registers, part(a, 2));
            tiles::load_right(registers, part(b, 0));
            tiles::multiply(registers);
            tiles::load_left(registers, part(a, 1));
            tiles::multiply(registers);
            tiles::load_right(registers, part(b, 1));
            tiles::multiply(registers);
            tiles::load_left(registers, part(a, 0));
            tiles::multiply(registers);
            tiles::load_right(registers, part(b, 2));
            tiles::multiply(registers);
        }
        for at in (0..steps).map(|step| step * PARTS * WORDS) {
            tiles::load_left(registers, a.map(|x| x.add(at)));
            tiles::load_right(registers, b.map(|x| x.add(at)));
            tiles::multiply(registers);
        }
    }
}
