//! The code that attention runs: by floats, or by pairs of bf16 where the processor multiplies those.

use super::{Way, backward, forward};
use crate::device::cpu::simd::level;

impl Way<f32> {
    pub fn floats() -> Self {
        Way {
            forward: forward::whole(level()),
            forward_narrow: forward::narrow(level()),
            backward: backward::whole(level()),
            backward_narrow: backward::narrow(level()),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Way<half::bf16> {
    pub fn pairs() -> Option<Self> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::super::tile::SIDE;
    use super::super::{Way, backward, form, forward};
    use crate::device::cpu::features::{Feature, has};
    use crate::device::cpu::gemm::pairs::Pairs;
    use half::bf16;
    use std::arch::x86_64::__m512;

    impl Way<bf16> {
        /// Where the processor has the instruction.
        pub fn pairs() -> Option<Self> {
            has(Feature::Avx512Bf16).then_some(Way {
                forward: forward_of::<SIDE>,
                forward_narrow: forward_of::<{ forward::NARROW }>,
                backward: backward_of::<SIDE>,
                backward_narrow: backward_of::<{ forward::NARROW }>,
            })
        }
    }

    /// # Safety
    /// As for [`forward::run_tile`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn forward_of<const BQ: usize>(
        task: forward::Task<bf16>,
        shared: forward::Shared,
        scratch: &mut [f32],
    ) {
        // SAFETY: the caller's contract.
        unsafe { forward::run_tile::<__m512, form::Pairs, Pairs, 8, BQ, true>(task, shared, scratch) }
    }

    /// # Safety
    /// As for [`backward::run_head`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn backward_of<const BQ: usize>(
        task: backward::Task<bf16>,
        shared: backward::Shared,
        scratch: &mut [f32],
    ) {
        // SAFETY: the caller's contract.
        unsafe { backward::run_head::<__m512, form::Pairs, Pairs, 8, BQ, true>(task, shared, scratch) }
    }
}

#[cfg(test)]
mod twin {
    use super::super::tile::SIDE;
    use super::super::{Way, backward, form, forward};
    use crate::device::cpu::gemm::pairs::tests::Twin;
    use crate::device::cpu::microkernel::Baseline;
    use half::bf16;

    impl Way<bf16> {
        /// Pairs in plain Rust, on any machine.
        pub fn twin() -> Self {
            Way {
                forward: forward_of::<SIDE>,
                forward_narrow: forward_of::<{ forward::NARROW }>,
                backward: backward_of::<SIDE>,
                backward_narrow: backward_of::<{ forward::NARROW }>,
            }
        }
    }

    unsafe fn forward_of<const BQ: usize>(
        task: forward::Task<bf16>,
        shared: forward::Shared,
        scratch: &mut [f32],
    ) {
        // SAFETY: the caller's contract; the rest is plain Rust.
        unsafe { forward::run_tile::<Baseline, form::Pairs, Twin, 4, BQ, true>(task, shared, scratch) }
    }

    unsafe fn backward_of<const BQ: usize>(
        task: backward::Task<bf16>,
        shared: backward::Shared,
        scratch: &mut [f32],
    ) {
        // SAFETY: the caller's contract; the rest is plain Rust.
        unsafe { backward::run_head::<Baseline, form::Pairs, Twin, 4, BQ, true>(task, shared, scratch) }
    }
}
