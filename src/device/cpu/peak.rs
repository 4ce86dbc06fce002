//! Loops of one kind of arithmetic on registers alone: what the units of the processor do at most.

use super::microkernel::{Baseline, Vector};
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

by_level! {
    fn rounds_on(steps: usize) -> (u64, f32) {
        Avx512 => rounds::<__m512>(steps),
        Avx2 => rounds::<__m256>(steps),
        Portable => rounds::<Baseline>(steps),
    }
}

/// # Safety
/// The instructions of `V` must exist.
#[inline(always)]
unsafe fn rounds<V: Vector>(steps: usize) -> (u64, f32) {
    // SAFETY: the caller's contract.
    unsafe {
        // The sums stay finite: each nears 0.5 / (1 - 0.999).
        let (factor, term) = (V::splat(0.999), V::splat(0.5));
        let mut sums = [V::splat(1.0); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = sum.fma(factor, term);
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
            let one = ((1.0f64 * 0.999 + 0.5) * 0.999 + 0.5) * 0.999 + 0.5;
            let lanes = count as f64 / 3.0;
            assert!(count > 0 && (f64::from(total) - lanes * one).abs() < 1e-4 * lanes, "{count} {total}");
        });
    }
}
