//! Products of bf16, two values of k a word: sums in f32, and two products an instruction and lane.
//!
//! The instruction adds the product of the odd values first, rounds after each of the two additions, and takes subnormal
//! numbers for zero, so that its sums are not those of multiply-adds over the same values in order.

#[cfg(test)]
pub(in crate::device::cpu) mod tests;

#[cfg(target_arch = "x86_64")]
pub use instruction::{Pairs, product};

#[cfg(target_arch = "x86_64")]
mod instruction {
    use crate::device::cpu::gemm::block::{Panels, run};
    use crate::device::cpu::gemm::product::{PASS, Product, right};
    use crate::device::cpu::microkernel::Term;
    use crate::device::cpu::pack::pack_pairs;
    use half::bf16;
    use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};

    /// The product where `features` reports AVX512_BF16.
    pub fn product() -> Product<bf16> {
        Product {
            name: "pairs of bf16 (AVX-512)",
            mr: 8,
            nr: 48,
            values: 2,
            multiple: 1,
            parts: 1,
            depth: PASS,
            right: right(),
            reads_stored: true,
            direct: true,
            pack_left: pack_pairs,
            pack_right: pack_pairs,
            run: pairs,
        }
    }

    /// # Safety
    /// As for [`run`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn pairs(panels: Panels, sums: &mut [f32]) {
        // SAFETY: the caller's contract.
        unsafe { run::<__m512, Pairs, 8, 3>(panels, sums) }
    }

    /// Lanes are pairs of bf16.
    pub struct Pairs;

    // SAFETY: one instruction; the types are 64 bytes each.
    unsafe impl Term<__m512> for Pairs {
        #[inline(always)]
        unsafe fn add(sum: __m512, a: __m512, b: __m512) -> __m512 {
            // SAFETY: the trait's contract.
            unsafe {
                let [a, b] = [a, b].map(|x| std::mem::transmute::<__m512, __m512bh>(x));
                _mm512_dpbf16_ps(sum, a, b)
            }
        }
    }
}
