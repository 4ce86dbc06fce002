//! Four products of bytes in each lane of one instruction, whose first factor has no sign.

use super::W_ROWS;
use crate::device::cpu::microkernel::prefetch;
use std::arch::x86_64::*;

/// Values in a register.
const LANES: usize = 64;
/// Rows of x whose sums with all rows of W stay in registers.
const TILE: usize = 6;
/// What makes a byte a number without sign: -128 becomes 0.
pub const OFFSET: i32 = 128;

/// As [`super::Sums`] says. With w + 128 in the place of w, a sum is larger by 128 times the sum of its row of x.
///
/// # Safety
/// AVX-512 with VNNI must have been detected.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub unsafe fn sums(out: &mut [i32], x: &[i8], sums: &[i32], w: [&[i8]; W_ROWS]) {
    let k = w[0].len();
    assert!(x.len() == sums.len() * k && out.len() == sums.len() * W_ROWS);
    assert!(w.iter().all(|w| w.len() == k));
    let tiles = out.chunks_mut(TILE * W_ROWS).zip(x.chunks(TILE * k)).zip(sums.chunks(TILE));
    for (number, ((out, x), sums)) in tiles.enumerate() {
        let ahead = number == 0;
        // SAFETY: x and the rows of W are as long as was asserted, and the caller detected the instructions.
        unsafe {
            match sums.len() {
                1 => block::<1>(out, x, sums, w, ahead),
                2 => block::<2>(out, x, sums, w, ahead),
                3 => block::<3>(out, x, sums, w, ahead),
                4 => block::<4>(out, x, sums, w, ahead),
                5 => block::<5>(out, x, sums, w, ahead),
                _ => block::<TILE>(out, x, sums, w, ahead),
            }
        }
    }
}

/// X rows of x against the rows of W; where `ahead`, the next rows of W are fetched meanwhile.
///
/// # Safety
/// x must hold X rows as long as those of W, and the instructions must exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn block<const X: usize>(out: &mut [i32], x: &[i8], sums: &[i32], w: [&[i8]; W_ROWS], ahead: bool) {
    let k = w[0].len();
    let sign = _mm512_set1_epi8(i8::MIN);
    let mut acc = [[_mm512_setzero_si512(); W_ROWS]; X];
    for p in (0..k).step_by(LANES) {
        // SAFETY: `p < k`, and `k - p` says how many follow.
        unsafe {
            // Flipping the uppermost bit adds 128.
            let columns = w.map(|w| _mm512_xor_si512(load(w.as_ptr().add(p), k - p), sign));
            if ahead {
                w.iter().for_each(|w| prefetch(w.as_ptr().wrapping_add(p + W_ROWS * k)));
            }
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = load(x.as_ptr().add(i * k + p), k - p);
                for (acc, column) in acc.iter_mut().zip(columns) {
                    *acc = _mm512_dpbusd_epi32(*acc, column, x);
                }
            }
        }
    }
    for ((out, acc), sum) in out.chunks_mut(W_ROWS).zip(acc).zip(sums) {
        for (out, total) in out.iter_mut().zip(totals(acc)) {
            *out = total.wrapping_sub(sum * OFFSET);
        }
    }
}

/// Values from `from` on, zeros beyond `count` of them.
///
/// # Safety
/// As many lie behind the pointer, and the instructions must exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn load(from: *const i8, count: usize) -> __m512i {
    // SAFETY: lanes beyond `count` are not read.
    unsafe {
        match count >= LANES {
            true => _mm512_loadu_si512(from.cast()),
            false => _mm512_maskz_loadu_epi8((1 << count) - 1, from),
        }
    }
}

/// The sum over the lanes of each of four registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn totals([a, b, c, d]: [__m512i; 4]) -> [i32; 4] {
    let both = |x, y| _mm512_add_epi32(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
    let (ab, cd) = (both(a, b), both(c, d));
    // Each quarter holds a sum of each.
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    let sum = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
    // SAFETY: both are 16 bytes in which every value means something.
    unsafe { std::mem::transmute::<__m128i, [i32; 4]>(sum) }
}
