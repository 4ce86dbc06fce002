//! The tile instructions in plain Rust, so that what is computed on tiles can be tested on any machine.

use super::{LINE, SIDE, Tiles, WORDS};
use crate::device::cpu::microkernel::Baseline;
use crate::device::cpu::simd::multiversion;

type Tile = [u32; WORDS];

/// The instructions as the manual has them (Intel SDM, volume 2): sums of the even and of the odd values of k each, both
/// by multiply-adds rounded once, then the two together, then added to C; subnormal numbers count as zeros.
pub struct Twin {
    registers: [Tile; 8],
}

impl Twin {
    fn operands<const A: u8, const B: u8>(&self) -> [Tile; 2] {
        [A, B].map(|register| self.registers[usize::from(register)])
    }
}

// SAFETY: plain Rust.
unsafe impl Tiles for Twin {
    type Vector = Baseline;

    unsafe fn configure() -> Self {
        // What a register holds before it is written shows as NaN.
        Twin { registers: [[u32::MAX; WORDS]; 8] }
    }

    unsafe fn zero<const T: u8>(&mut self) {
        self.registers[usize::from(T)].fill(0);
    }

    unsafe fn load<const T: u8>(&mut self, from: *const f32, stride: usize) {
        for (i, row) in self.registers[usize::from(T)].chunks_exact_mut(SIDE).enumerate() {
            // SAFETY: the trait's contract.
            let line = unsafe { from.cast::<u8>().add(i * stride).cast::<[u32; SIDE]>().read_unaligned() };
            row.copy_from_slice(&line);
        }
    }

    unsafe fn pass<const T: u8>(&mut self, from: *const f32) {
        // SAFETY: the trait's contract.
        unsafe { self.load::<T>(from, LINE) }
    }

    unsafe fn store<const T: u8>(&mut self, to: *mut f32, stride: usize) {
        for (i, row) in self.registers[usize::from(T)].chunks_exact(SIDE).enumerate() {
            // SAFETY: the trait's contract.
            unsafe {
                std::ptr::copy_nonoverlapping(row.as_ptr(), to.cast::<u8>().add(i * stride).cast(), SIDE)
            };
        }
    }

    unsafe fn multiply<const C: u8, const A: u8, const B: u8>(&mut self) {
        let [a, b] = self.operands::<A, B>();
        products_of_pairs(&mut self.registers[usize::from(C)], &a, &b);
    }

    unsafe fn multiply_bytes<const C: u8, const A: u8, const B: u8>(&mut self) {
        let [a, b] = self.operands::<A, B>();
        products_of_bytes(&mut self.registers[usize::from(C)], &a, &b);
    }
}

#[inline(always)]
fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0f32.copysign(x) } else { x }
}

multiversion! {
    fn products_of_pairs(c: &mut Tile, a: &Tile, b: &Tile) {
        let even = |word: u32| flushed(f32::from_bits(word << 16));
        let odd = |word: u32| flushed(f32::from_bits(word & 0xffff_0000));
        for (c, a) in c.chunks_exact_mut(SIDE).zip(a.chunks_exact(SIDE)) {
            let (mut evens, mut odds) = ([0f32; SIDE], [0f32; SIDE]);
            for (&a, b) in a.iter().zip(b.chunks_exact(SIDE)) {
                for n in 0..SIDE {
                    evens[n] = flushed(even(a).mul_add(even(b[n]), evens[n]));
                    odds[n] = flushed(odd(a).mul_add(odd(b[n]), odds[n]));
                }
            }
            for n in 0..SIDE {
                let sum = flushed(evens[n] + odds[n]);
                c[n] = flushed(flushed(f32::from_bits(c[n])) + sum).to_bits();
            }
        }
    }

    fn products_of_bytes(c: &mut Tile, a: &Tile, b: &Tile) {
        for (c, a) in c.chunks_exact_mut(SIDE).zip(a.chunks_exact(SIDE)) {
            for (a, b) in a.iter().zip(b.chunks_exact(SIDE)) {
                for n in 0..SIDE {
                    let products = std::iter::zip(a.to_le_bytes(), b[n].to_le_bytes());
                    let sum: i32 = products.map(|(a, b)| i32::from(a as i8) * i32::from(b as i8)).sum();
                    c[n] = c[n].wrapping_add(sum as u32);
                }
            }
        }
    }
}
