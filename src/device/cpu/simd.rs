//! One body, compiled for AVX-512, for AVX2 and for the baseline; the best one is chosen at run time.

#[cfg(test)]
pub use super::features::with_ever_more as on_every_level;
use super::features::{Feature, has};

/// The instruction sets a body is compiled for, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Portable,
    Avx2,
    Avx512,
}

impl Level {
    /// Vector registers of a thread.
    pub const fn registers(self) -> usize {
        match self {
            Level::Portable if cfg!(target_arch = "aarch64") => 32,
            Level::Portable | Level::Avx2 => 16,
            Level::Avx512 => 32,
        }
    }
}

/// The best level of those that are used on this machine.
#[inline]
pub fn level() -> Level {
    match (has(Feature::Avx2), has(Feature::Avx512)) {
        (_, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        (false, false) => Level::Portable,
    }
}

/// Whether the baseline of this target multiplies and adds in one instruction.
pub const BASELINE_FMA: bool = cfg!(target_arch = "aarch64");

/// `a * b + c`, in one instruction where `FMA`; elsewhere `mul_add` would be a library call per element.
#[inline(always)]
pub fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Partial sums of a reduction; the same for every level, so that the order of additions is too.
const LANES: usize = 64;

/// Sum of `term` over the numbers that the slices hold side by side, in a fixed order that vectorises: without a check of
/// bounds for every number, which keeps the last ones of each row of lanes out of vectors.
#[inline(always)]
pub fn lane_sum<const N: usize>(x: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    let n = x[0].len();
    let x = x.map(|x| &x[..n]);
    let mut lanes = [0.0f32; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        let x = x.map(|x| &x[start..start + LANES]);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(x.map(|x| x[lane]));
        }
    }
    for i in whole..n {
        lanes[i - whole] += term(x.map(|x| x[i]));
    }
    let mut width = LANES / 2;
    while width > 0 {
        let (low, high) = lanes.split_at_mut(width);
        for (a, b) in low.iter_mut().zip(high) {
            *a += *b;
        }
        width /= 2;
    }
    lanes[0]
}

/// Largest element of `x`, `-inf` where there is none; a NaN is passed over.
#[inline(always)]
pub fn lane_max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    for (lane, &v) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = if v > *lane { v } else { *lane };
    }
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Defines functions whose body is compiled once per [`Level`]; the body sees `const FMA: bool`.
macro_rules! multiversion {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            match $crate::device::cpu::simd::level() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `level` reports AVX-512 only where every enabled feature was detected.
                $crate::device::cpu::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `level` reports AVX2 only where every enabled feature was detected.
                $crate::device::cpu::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                _ => body::<{ $crate::device::cpu::simd::BASELINE_FMA }>($($arg),*),
            }
        }
    )*};
}
pub(crate) use multiversion;

/// Defines a function that gives the code of a [`Level`]: an expression for each, inlined where its instructions are
/// enabled. The code is unsafe to call on a machine without them, and where the expression is.
macro_rules! by_level {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $([$($generic:ident: $bound:path),*])?
        ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? {
            Avx512 => $avx512:expr,
            Avx2 => $avx2:expr,
            Portable => $portable:expr,
        }) => {
        $(#[$meta])*
        $vis fn $name$(<$($generic: $bound),*>)?(
            level: $crate::device::cpu::simd::Level,
        ) -> unsafe fn($($ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512$(<$($generic: $bound),*>)?($($arg: $ty),*) $(-> $ret)? {
                use std::arch::x86_64::__m512;
                // SAFETY: the caller's contract.
                unsafe { $avx512 }
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2$(<$($generic: $bound),*>)?($($arg: $ty),*) $(-> $ret)? {
                use std::arch::x86_64::__m256;
                // SAFETY: the caller's contract.
                unsafe { $avx2 }
            }

            unsafe fn portable$(<$($generic: $bound),*>)?($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's contract.
                unsafe { $portable }
            }

            match level {
                #[cfg(target_arch = "x86_64")]
                $crate::device::cpu::simd::Level::Avx512 => avx512,
                #[cfg(target_arch = "x86_64")]
                $crate::device::cpu::simd::Level::Avx2 => avx2,
                _ => portable,
            }
        }
    };
}
pub(crate) use by_level;
