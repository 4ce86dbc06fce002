//! Which of the ways to compute a product is used here.

use super::block::floats;
use super::product::{PASS, Pack, Product, right};
#[cfg(target_arch = "x86_64")]
use super::{pairs, parts, tiles};
#[cfg(target_arch = "x86_64")]
use crate::device::cpu::features::{Feature, has};
use crate::device::cpu::pack::{pack_panel, pack_widened};
use crate::device::cpu::simd::{Level, level};
use crate::shape::{DType, Stored};
use half::bf16;

/// What an operand may be stored as.
pub trait Factor: Stored {
    /// How two matrices of these are multiplied here.
    fn product() -> Product<Self>;
}

impl Factor for f32 {
    fn product() -> Product<f32> {
        #[cfg(target_arch = "x86_64")]
        if has(Feature::Bf16x6) {
            return parts::product();
        }
        Product { reads_stored: true, ..multiply_adds(pack_panel) }
    }
}

impl Factor for bf16 {
    fn product() -> Product<bf16> {
        #[cfg(target_arch = "x86_64")]
        if has(Feature::Amx) {
            return tiles::product();
        }
        #[cfg(target_arch = "x86_64")]
        if has(Feature::Avx512Bf16) {
            return pairs::product();
        }
        multiply_adds(pack_widened)
    }
}

/// Products of floats, which `pack` makes of what is stored.
fn multiply_adds<E>(pack: Pack<E>) -> Product<E> {
    let (name, mr, nr) = match level() {
        Level::Avx512 => ("FMA (AVX-512)", 8, 48),
        Level::Avx2 => ("FMA (AVX2)", 4, 24),
        Level::Portable if cfg!(target_arch = "aarch64") => ("FMA (NEON)", 4, 8),
        Level::Portable => ("plain", 4, 8),
    };
    Product {
        name,
        mr,
        nr,
        values: 1,
        multiple: 1,
        parts: 1,
        depth: PASS,
        right: right(),
        reads_stored: false,
        direct: true,
        pack_left: pack,
        pack_right: pack,
        run: floats(level()),
    }
}

/// What computes products of a storage type here.
pub fn way(storage: DType) -> &'static str {
    match storage {
        DType::BF16 => bf16::product().name,
        _ => f32::product().name,
    }
}
