//! Two products of widened bytes in each lane, for processors without VNNI.

use super::W_ROWS;
use crate::device::cpu::microkernel::prefetch;
use std::arch::x86_64::*;

/// A register of sums, or of factors as its instructions take them.
///
/// # Safety
/// The operations may only run where the instructions of the type were detected, and those that load read `VALUES` bytes.
unsafe trait Lanes: Copy {
    /// Values of a row that are multiplied at a time.
    const VALUES: usize;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const i8) -> Self;
    /// These sums with the products of weights and values added.
    unsafe fn add(self, weights: Self, values: Self) -> Self;
    /// The sum over the lanes of each.
    unsafe fn totals(sums: [Self; W_ROWS]) -> [i32; W_ROWS];
}

/// Two products of widened bytes in each lane.
macro_rules! words {
    ($name:ident, $register:ty, $values:literal, $zero:ident, $load:ident, $widen:ident, $multiply:ident, $add:ident, $totals:ident) => {
        #[derive(Clone, Copy)]
        struct $name($register);

        // SAFETY: the instructions are those of AVX2, or of AVX-512 F and BW.
        unsafe impl Lanes for $name {
            const VALUES: usize = $values;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the trait's contract.
                unsafe { $name($zero()) }
            }

            #[inline(always)]
            unsafe fn load(from: *const i8) -> Self {
                // SAFETY: the trait's contract.
                unsafe { $name($widen($load(from.cast()))) }
            }

            #[inline(always)]
            unsafe fn add(self, weights: Self, values: Self) -> Self {
                // SAFETY: the trait's contract.
                unsafe { $name($add(self.0, $multiply(weights.0, values.0))) }
            }

            #[inline(always)]
            unsafe fn totals(sums: [Self; W_ROWS]) -> [i32; W_ROWS] {
                // SAFETY: the trait's contract.
                unsafe { $totals(sums.map(|sum| sum.0)) }
            }
        }
    };
}

words!(
    Words512,
    __m512i,
    32,
    _mm512_setzero_si512,
    _mm256_loadu_si256,
    _mm512_cvtepi8_epi16,
    _mm512_madd_epi16,
    _mm512_add_epi32,
    totals512
);
words!(
    Words256,
    __m256i,
    16,
    _mm256_setzero_si256,
    _mm_loadu_si128,
    _mm256_cvtepi8_epi16,
    _mm256_madd_epi16,
    _mm256_add_epi32,
    totals256
);

/// # Safety
/// AVX-512 F must have been detected.
#[inline(always)]
unsafe fn totals512(sums: [__m512i; W_ROWS]) -> [i32; W_ROWS] {
    // SAFETY: the caller's contract.
    unsafe {
        totals256(
            sums.map(|x| _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x))),
        )
    }
}

/// # Safety
/// AVX2 must have been detected.
#[inline(always)]
unsafe fn totals256([a, b, c, d]: [__m256i; W_ROWS]) -> [i32; W_ROWS] {
    // SAFETY: the caller's contract; four numbers are 16 bytes in which every value means something.
    unsafe {
        let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        // Each half holds a sum of each.
        let all = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
        let sum = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        std::mem::transmute::<__m128i, [i32; W_ROWS]>(sum)
    }
}

/// As [`super::Sums`] says.
///
/// # Safety
/// AVX-512 F and BW must have been detected.
#[target_feature(enable = "avx512f,avx512bw,avx2")]
pub unsafe fn by_avx512(out: &mut [i32], x: &[i8], sums: &[i32], w: [&[i8]; W_ROWS]) {
    // SAFETY: the caller's contract.
    unsafe { tiles::<Words512, 4>(out, x, sums, w) }
}

/// As [`super::Sums`] says.
///
/// # Safety
/// AVX2 must have been detected.
#[target_feature(enable = "avx2")]
pub unsafe fn by_avx2(out: &mut [i32], x: &[i8], sums: &[i32], w: [&[i8]; W_ROWS]) {
    // SAFETY: the caller's contract.
    unsafe { tiles::<Words256, 2>(out, x, sums, w) }
}

/// TILE rows of x at a time, four at most, whose sums with all rows of W stay in registers, and fewer at the end.
///
/// # Safety
/// The instructions of `L` must exist.
#[inline(always)]
unsafe fn tiles<L: Lanes, const TILE: usize>(out: &mut [i32], x: &[i8], sums: &[i32], w: [&[i8]; W_ROWS]) {
    let k = w[0].len();
    assert!(x.len() == sums.len() * k && out.len() == sums.len() * W_ROWS);
    assert!(w.iter().all(|w| w.len() == k));
    let tiles = out.chunks_mut(TILE * W_ROWS).zip(x.chunks(TILE * k)).zip(sums.chunks(TILE));
    for (number, ((out, x), sums)) in tiles.enumerate() {
        let ahead = number == 0;
        // SAFETY: x and the rows of W are as long as was asserted; the caller's contract.
        unsafe {
            match sums.len() {
                1 => block::<L, 1>(out, x, w, ahead),
                2 => block::<L, 2>(out, x, w, ahead),
                3 => block::<L, 3>(out, x, w, ahead),
                _ => block::<L, TILE>(out, x, w, ahead),
            }
        }
    }
}

/// X rows of x against the rows of W; where `ahead`, the next rows of W are fetched meanwhile.
///
/// # Safety
/// x must hold X rows as long as those of W, and the instructions of `L` must exist.
// Indices, not iterators: the sums would leave their registers for one.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn block<L: Lanes, const X: usize>(out: &mut [i32], x: &[i8], w: [&[i8]; W_ROWS], ahead: bool) {
    let k = w[0].len();
    let last = k - k % L::VALUES;
    // SAFETY: the caller's contract; a row has `VALUES` values from every `p` on.
    unsafe {
        let mut acc = [[L::zero(); W_ROWS]; X];
        for p in (0..last).step_by(L::VALUES) {
            let weights = w.map(|w| L::load(w.as_ptr().add(p)));
            if ahead {
                w.iter().for_each(|w| prefetch(w.as_ptr().wrapping_add(p + W_ROWS * k)));
            }
            for i in 0..X {
                let values = L::load(x.as_ptr().add(i * k + p));
                for j in 0..W_ROWS {
                    acc[i][j] = acc[i][j].add(weights[j], values);
                }
            }
        }
        for i in 0..X {
            let totals = L::totals(acc[i]);
            for j in 0..W_ROWS {
                out[i * W_ROWS + j] = totals[j];
            }
        }
    }
    if last < k {
        add_rest(out, x, w, last);
    }
}

/// Adds the products of what is left of each row from `last` on, too little for a register.
#[inline(never)]
fn add_rest(out: &mut [i32], x: &[i8], w: [&[i8]; W_ROWS], last: usize) {
    for (out, x) in out.chunks_mut(W_ROWS).zip(x.chunks(w[0].len())) {
        for (out, w) in out.iter_mut().zip(w) {
            let pairs = w[last..].iter().zip(&x[last..]);
            let few: i32 = pairs.map(|(&w, &x)| i32::from(w) * i32::from(x)).sum();
            *out += few;
        }
    }
}
