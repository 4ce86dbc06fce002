//! The tile registers of the processor. Their instructions are named in assembly, for the compiler has no stable ones; it
//! never uses the registers itself, so that they keep their contents from one instruction here to the next.

use super::{LINE, Tiles};
use std::arch::asm;
use std::arch::x86_64::__m512;

/// The tiles of this thread, between their configuration and their release.
pub struct Registers(());

/// What LDTILECFG reads (Intel SDM, volume 1, 18.3).
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of 16 rows of 64 bytes; the registers beyond do not exist.
static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

// SAFETY: each method is one instruction.
unsafe impl Tiles for Registers {
    type Vector = __m512;

    #[inline(always)]
    unsafe fn configure() -> Self {
        // SAFETY: the caller's contract; the configuration is one that the first palette allows.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly, preserves_flags))
        };
        Registers(())
    }

    #[inline(always)]
    unsafe fn zero<const T: u8>(&mut self) {
        // SAFETY: the tiles are configured.
        unsafe { asm!("tilezero tmm{}", const T, options(nostack, nomem, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn load<const T: u8>(&mut self, from: *const f32, stride: usize) {
        // SAFETY: the trait's contract.
        unsafe {
            asm!("tileloadd tmm{}, [{} + {}]", const T, in(reg) from, in(reg) stride,
                options(nostack, readonly, preserves_flags))
        }
    }

    #[inline(always)]
    unsafe fn pass<const T: u8>(&mut self, from: *const f32) {
        // SAFETY: the trait's contract.
        unsafe {
            asm!("tileloaddt1 tmm{}, [{} + {}]", const T, in(reg) from, in(reg) LINE,
                options(nostack, readonly, preserves_flags))
        }
    }

    #[inline(always)]
    unsafe fn store<const T: u8>(&mut self, to: *mut f32, stride: usize) {
        // SAFETY: the trait's contract.
        unsafe {
            asm!("tilestored [{} + {}], tmm{}", in(reg) to, in(reg) stride, const T,
                options(nostack, preserves_flags))
        }
    }

    #[inline(always)]
    unsafe fn multiply<const C: u8, const A: u8, const B: u8>(&mut self) {
        // SAFETY: the tiles are configured.
        unsafe {
            asm!("tdpbf16ps tmm{}, tmm{}, tmm{}", const C, const A, const B,
                options(nostack, nomem, preserves_flags))
        }
    }

    #[inline(always)]
    unsafe fn multiply_bytes<const C: u8, const A: u8, const B: u8>(&mut self) {
        // SAFETY: the tiles are configured.
        unsafe {
            asm!("tdpbssd tmm{}, tmm{}, tmm{}", const C, const A, const B,
                options(nostack, nomem, preserves_flags))
        }
    }
}

impl Drop for Registers {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the tiles were configured, so that the instruction is here and allowed.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}
