//! The register tile under every matrix product: `MR` rows of `NV` vectors, for each vector width.

use super::simd::Level;
use crate::shape::Stored;
use half::bf16;

/// An f32 vector register.
///
/// # Safety
/// The operations may only run where the instructions of the type were detected, and `load` and
/// `store` touch `LANES` floats from the pointer on.
pub(crate) unsafe trait Vector: Copy {
    const LANES: usize;
    /// The level whose instructions these are.
    const LEVEL: Level;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// `LANES` of these, widened.
    unsafe fn load_bf16(from: *const bf16) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self * b + c`
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// Sum over the lanes, in a fixed order.
    unsafe fn sum(self) -> f32;
}

/// Four lanes of the baseline instruction set.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(super) struct Baseline([f32; 4]);

impl Baseline {
    /// What `add` gives for each lane of these and the words of two others.
    #[inline(always)]
    pub fn with_each(self, a: Self, b: Self, add: impl Fn(f32, u32, u32) -> f32) -> Self {
        Baseline(std::array::from_fn(|i| add(self.0[i], a.0[i].to_bits(), b.0[i].to_bits())))
    }
}

// SAFETY: plain Rust, correct on every machine.
unsafe impl Vector for Baseline {
    const LANES: usize = 4;
    const LEVEL: Level = Level::Portable;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Baseline([x; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller owns `LANES` floats from `from` on.
        Baseline(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the caller owns `LANES` of them from `from` on.
        Baseline(unsafe { from.cast::<[bf16; 4]>().read_unaligned() }.map(Stored::wide))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller owns `LANES` floats from `to` on.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        use super::simd::{BASELINE_FMA, fma};
        Baseline(std::array::from_fn(|i| fma::<BASELINE_FMA>(self.0[i], b.0[i], c.0[i])))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Level, Vector};
    use half::bf16;
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($register:ty, $lanes:literal, $level:expr, $splat:ident, $load:ident, $widen:ident, $store:ident, $fma:ident, $sum:ident) => {
            // SAFETY: each method is one instruction of the set that the type stands for.
            unsafe impl Vector for $register {
                const LANES: usize = $lanes;
                const LEVEL: Level = $level;
                #[inline(always)]
                unsafe fn splat(x: f32) -> Self {
                    // SAFETY: the trait's contract: the instructions were detected.
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the trait's contract: `LANES` floats lie behind the pointer.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn load_bf16(from: *const bf16) -> Self {
                    // SAFETY: the trait's contract: `LANES` of them lie behind the pointer.
                    unsafe { $widen(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: the trait's contract: `LANES` floats lie behind the pointer.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn fma(self, b: Self, c: Self) -> Self {
                    // SAFETY: the trait's contract: the instructions were detected.
                    unsafe { $fma(self, b, c) }
                }
                #[inline(always)]
                unsafe fn sum(self) -> f32 {
                    // SAFETY: the trait's contract: the instructions were detected.
                    unsafe { $sum(self) }
                }
            }
        };
    }

    /// # Safety
    /// AVX2 must have been detected, and 8 numbers lie behind the pointer.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn widen256(from: *const bf16) -> __m256 {
        // A bf16 is the upper half of a float.
        // SAFETY: the caller's contract.
        let bits = unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
    }

    /// # Safety
    /// AVX-512 must have been detected, and 16 numbers lie behind the pointer.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn widen512(from: *const bf16) -> __m512 {
        // SAFETY: the caller's contract.
        let bits = unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }

    /// # Safety
    /// AVX must have been detected.
    #[inline]
    #[target_feature(enable = "avx")]
    unsafe fn sum256(x: __m256) -> f32 {
        let halves = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
        _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
    }

    vector!(
        __m256,
        8,
        Level::Avx2,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        widen256,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        sum256
    );
    vector!(
        __m512,
        16,
        Level::Avx512,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        widen512,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_reduce_add_ps
    );
}

/// How weights and caches are stored.
pub(crate) trait Operand: Stored {
    /// # Safety
    /// As [`Vector::load`].
    unsafe fn load<V: Vector>(from: *const Self) -> V;
}

impl Operand for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const f32) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load(from) }
    }
}

impl Operand for bf16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const bf16) -> V {
        // SAFETY: the caller's contract.
        unsafe { V::load_bf16(from) }
    }
}

/// Bytes of a line of the caches, which memory moves at once.
pub(super) const LINE: usize = 64;

/// Asks for the cache line at `from`, which need not exist, in the second-level cache: in the first, what is
/// asked for ahead would wait for its few open misses, and the work with it.
#[inline(always)]
pub(super) fn prefetch<E>(from: *const E) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// What a step of a register tile adds to a lane of its sums.
///
/// # Safety
/// The operations may only run where the instructions of `V` and of the type itself were detected.
pub(crate) unsafe trait Term<V: Vector> {
    /// `sum` with the product of the lanes of `a` and `b` added.
    unsafe fn add(sum: V, a: V, b: V) -> V;
}

/// Lanes are floats.
pub(super) struct Floats;

// SAFETY: the instruction is one of `V`.
unsafe impl<V: Vector> Term<V> for Floats {
    #[inline(always)]
    unsafe fn add(sum: V, a: V, b: V) -> V {
        // SAFETY: the trait's contract.
        unsafe { a.fma(b, sum) }
    }
}

/// Where the left operand of a register tile lies: element `(i, p)` at `i * row + p * depth`.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    pub row: usize,
    pub depth: usize,
}

/// Steps of k that are written out: with the loop's own instructions after every one, the kernel was 8 % slower on cores
/// whose rates swing, as where others have a share of them, and no slower in quiet moments.
const STEPS: usize = 4;

/// `acc[i][v] = sum over p < k of a(i, p) * b[p * b_stride + v * LANES ..]`, each product as `T` takes it.
///
/// # Safety
/// `a` and `b` must reach every element named by the formula, and the instructions of `V` and `T` must exist.
#[inline(always)]
pub(super) unsafe fn product<V: Vector, T: Term<V>, const MR: usize, const NV: usize>(
    k: usize,
    a: *const f32,
    strides: Strides,
    b: *const f32,
    b_stride: usize,
) -> [[V; NV]; MR] {
    // SAFETY: the caller's contract covers every address formed here.
    unsafe {
        let mut acc = [[V::splat(0.0); NV]; MR];
        let (mut a, mut b) = (a, b);
        for _ in 0..k / STEPS {
            for step in 0..STEPS {
                let (a, b) = (a.add(step * strides.depth), b.add(step * b_stride));
                add_product::<V, T, MR, NV>(&mut acc, a, strides.row, b);
            }
            a = a.wrapping_add(STEPS * strides.depth);
            b = b.wrapping_add(STEPS * b_stride);
        }
        for _ in 0..k % STEPS {
            add_product::<V, T, MR, NV>(&mut acc, a, strides.row, b);
            a = a.wrapping_add(strides.depth);
            b = b.wrapping_add(b_stride);
        }
        acc
    }
}

/// Adds a step of [`product`].
///
/// # Safety
/// As there.
// Indices, not iterators: without much optimisation the sums would leave their registers for one.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn add_product<V: Vector, T: Term<V>, const MR: usize, const NV: usize>(
    acc: &mut [[V; NV]; MR],
    a: *const f32,
    row: usize,
    b: *const f32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut columns = [V::splat(0.0); NV];
        for v in 0..NV {
            columns[v] = V::load(b.add(v * V::LANES));
        }
        for i in 0..MR {
            let x = V::splat(*a.add(i * row));
            for v in 0..NV {
                acc[i][v] = T::add(acc[i][v], x, columns[v]);
            }
        }
    }
}
