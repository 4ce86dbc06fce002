//! Loops of one kind of arithmetic on registers alone: what the units of the processor do at most.

#[cfg(target_arch = "x86_64")]
use super::features::{Feature, has};
#[cfg(target_arch = "x86_64")]
use super::gemm::{pairs::Pairs, tiles};
use super::microkernel::{Baseline, Floats, Term, Vector};
use super::simd::{by_level, level};

/// Sums that do not wait for each other: more than the latency times the units of any processor, and with two
/// factors as many as the fewest registers hold.
const CHAINS: usize = 12;

/// Does `steps` rounds of independent multiply-adds on this thread; how many multiply-adds of one float, and a sum
/// that the caller must look at, or nothing would be computed.
pub fn multiply_adds(steps: usize) -> (u64, f32) {
    // SAFETY: `level` reports instructions only where they were detected.
    unsafe { rounds_on(level())(steps) }
}

/// As [`multiply_adds`], by the instructions that multiply bf16 and are used, and what these multiply; nothing where there
/// are none.
pub fn bf16_products(steps: usize) -> Option<(&'static str, u64, f32)> {
    #[cfg(target_arch = "x86_64")]
    {
        if has(Feature::Amx) {
            let (count, total) = tiles::rounds(steps / TILE_STEPS + 1);
            return Some(("tiles of bf16", count, total));
        }
        if has(Feature::Avx512Bf16) {
            // SAFETY: the instruction was detected.
            let (count, total) = unsafe { rounds_of_pairs(steps) };
            return Some(("pairs of bf16", 2 * count, total));
        }
    }
    let _ = steps;
    None
}

/// As [`multiply_adds`], of bytes, by the instruction that weights in 8 bits are multiplied with where x has many rows;
/// nothing where there is none.
pub fn byte_products(steps: usize) -> Option<(u64, i32)> {
    #[cfg(target_arch = "x86_64")]
    {
        if has(Feature::AmxInt8) {
            let (count, total) = tiles::rounds_of_bytes(steps / TILE_STEPS + 1);
            return Some((count, total as i32));
        }
        if has(Feature::Avx512Vnni) {
            // SAFETY: the instruction was detected.
            return Some(unsafe { rounds_of_bytes(steps) });
        }
    }
    let _ = steps;
    None
}

/// Steps of vectors that take about as long as one of tiles.
#[cfg(target_arch = "x86_64")]
const TILE_STEPS: usize = 10;

by_level! {
    fn rounds_on(steps: usize) -> (u64, f32) {
        Avx512 => rounds::<__m512, Floats>(steps, (0.031_25, 0.031_25)),
        Avx2 => rounds::<__m256, Floats>(steps, (0.031_25, 0.031_25)),
        Portable => rounds::<Baseline, Floats>(steps, (0.031_25, 0.031_25)),
    }
}

/// # Safety
/// AVX512_BF16 must have been detected.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rounds_of_pairs(steps: usize) -> (u64, f32) {
    // 2^-7 in both halves of a word: the sums grow by 2^-13 a step.
    let small = f32::from_bits(0x3c00_3c00);
    // SAFETY: the caller's contract.
    unsafe { rounds::<std::arch::x86_64::__m512, Pairs>(steps, (small, small)) }
}

/// # Safety
/// AVX-512 with VNNI must have been detected.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn rounds_of_bytes(steps: usize) -> (u64, i32) {
    use std::arch::x86_64::*;
    let [a, b] = [1, 1].map(|one| _mm512_set1_epi8(std::hint::black_box(one)));
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    let total = sums.into_iter().fold(0i32, |total, sum| total.wrapping_add(_mm512_reduce_add_epi32(sum)));
    ((steps * CHAINS * size_of::<__m512i>()) as u64, total)
}

/// # Safety
/// The instructions of `V` and `T` must exist.
#[inline(always)]
unsafe fn rounds<V: Vector, T: Term<V>>(steps: usize, (a, b): (f32, f32)) -> (u64, f32) {
    // SAFETY: the caller's contract.
    unsafe {
        let (a, b) = (V::splat(std::hint::black_box(a)), V::splat(std::hint::black_box(b)));
        let mut sums = [V::splat(1.0); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = T::add(*sum, a, b);
            }
        }
        let total = sums.iter().map(|sum| sum.sum()).sum();
        ((steps * CHAINS * V::LANES) as u64, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::simd::on_every_level;

    #[test]
    fn every_step_is_done() {
        on_every_level(|| {
            let (count, total) = multiply_adds(3);
            let lanes = count as f64 / 3.0;
            // Every sum is exact: 1 and three times 2^-10.
            assert!(count > 0 && f64::from(total) == lanes * (1.0 + 3.0 / 1024.0), "{count} {total}");
            if let Some(("pairs of bf16", count, total)) = bf16_products(4096) {
                // A lane adds two products at a time.
                let lanes = count as f64 / 8192.0;
                let want = lanes * (1.0 + 8192.0 / 16384.0);
                assert!(f64::from(total) == want, "{total}, not {want}");
            }
            if let Some((count, total)) = byte_products(3) {
                // Every product is 1, and of tiles 0.
                let tiles = cfg!(target_arch = "x86_64") && has(Feature::AmxInt8);
                assert!(count > 0 && total as u64 == if tiles { 0 } else { count }, "{count} {total}");
            }
        });
    }
}
