//! The code that attention runs: by floats, or by pairs of bf16 where the processor multiplies those, on vectors or tiles.

use super::tile::SIDE;
use super::{Way, backward, form, forward};
use crate::device::cpu::simd::level;
use half::bf16;

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

/// A way by the products `$of` of pairs, whose code has the attributes.
#[allow(unused_macros)]
macro_rules! pairs {
    ($of:ty $(, $attribute:meta)?) => {{
        $(#[$attribute])?
        unsafe fn forward_of<const BQ: usize>(
            task: forward::Task<bf16>,
            shared: forward::Shared,
            scratch: &mut [f32],
        ) {
            // SAFETY: the caller's contract.
            unsafe { forward::run_tiles::<$of, form::Pairs, BQ, true>(task, shared, scratch) }
        }

        $(#[$attribute])?
        unsafe fn backward_of<const BQ: usize>(
            task: backward::Task<bf16>,
            shared: backward::Shared,
            scratch: &mut [f32],
        ) {
            // SAFETY: the caller's contract.
            unsafe { backward::run_head::<$of, form::Pairs, BQ, true>(task, shared, scratch) }
        }

        Way {
            forward: forward_of::<SIDE>,
            forward_narrow: forward_of::<{ forward::NARROW }>,
            backward: backward_of::<SIDE>,
            backward_narrow: backward_of::<{ forward::NARROW }>,
        }
    }};
}

#[cfg(not(target_arch = "x86_64"))]
impl Way<bf16> {
    /// Where the processor multiplies pairs.
    pub fn pairs() -> Option<Self> {
        Self::on_vectors()
    }

    pub(in crate::device::cpu::attention) fn on_vectors() -> Option<Self> {
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::tile::Vectors;
    use super::super::tiles::OnTiles;
    use super::*;
    use crate::device::cpu::features::{Feature, has};
    use crate::device::cpu::gemm::pairs::Pairs;
    use crate::device::cpu::gemm::tiles::{self, Registers, Twin};
    use std::arch::x86_64::__m512;

    impl Way<bf16> {
        /// Where the processor multiplies pairs: on tiles, or else on vectors.
        pub fn pairs() -> Option<Self> {
            Self::on_tiles().or_else(Self::on_vectors)
        }

        pub(in crate::device::cpu::attention) fn on_tiles() -> Option<Self> {
            has(Feature::Amx).then(|| match tiles::on_twin() {
                true => Self::on_twin(),
                false => pairs!(
                    OnTiles<Registers>,
                    target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
                ),
            })
        }

        /// On the tiles' twin, in plain Rust.
        pub(in crate::device::cpu::attention) fn on_twin() -> Self {
            pairs!(OnTiles<Twin>)
        }

        pub(in crate::device::cpu::attention) fn on_vectors() -> Option<Self> {
            has(Feature::Avx512Bf16).then(|| {
                pairs!(
                    Vectors<__m512, Pairs, 8>,
                    target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
                )
            })
        }
    }
}

/// Pairs on vectors in plain Rust, on any machine.
#[cfg(test)]
pub fn twin_of_vectors() -> Way<bf16> {
    use super::tile::Vectors;
    use crate::device::cpu::gemm::pairs::tests::Twin;
    use crate::device::cpu::microkernel::Baseline;
    pairs!(Vectors<Baseline, Twin, 4>)
}
