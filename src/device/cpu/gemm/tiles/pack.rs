//! Packing into tiles of 16 lines of 16 words, a word holding two values of k that follow each other: a line of a left
//! tile has the 32 values of a row of A, one of a right tile the pairs of 16 columns of B.

use super::{SIDE, VALUES, WORDS};
use crate::device::cpu::pack::{PanelSource, pair};
use crate::shape::Stored;
use half::bf16;

#[cfg(test)]
mod tests;

/// Most parts of a value.
const MOST: usize = 3;

/// What values are stored as, and the bf16 that they are packed as: themselves, or the parts that sum to them.
pub trait Words: Stored {
    const PARTS: usize;
    fn parts(self) -> [bf16; MOST];
    /// The words of `x[0]` and `x[1]`, 16 even and 16 odd values, or of 32 in their order where `interleaved`.
    ///
    /// # Safety
    /// AVX-512 must have been detected, and the values must exist.
    #[cfg(target_arch = "x86_64")]
    unsafe fn lines(x: [*const Self; 2]) -> [std::arch::x86_64::__m512i; MOST];
    /// The words of 32 values that follow each other.
    ///
    /// # Safety
    /// As for `lines`.
    #[cfg(target_arch = "x86_64")]
    unsafe fn line(x: *const Self) -> [std::arch::x86_64::__m512i; MOST];
}

/// Packs rows `first .. first + width` of a left operand: for each 16 rows a column of tiles, those of the parts of the
/// same values one after the other.
pub fn left<E: Words>(panel: &mut [f32], source: PanelSource<E>, first: usize, width: usize) {
    columns::<E, true>(panel, source, first, width);
}

/// As [`left`], columns of a right operand.
pub fn right<E: Words>(panel: &mut [f32], source: PanelSource<E>, first: usize, width: usize) {
    columns::<E, false>(panel, source, first, width);
}

fn columns<E: Words, const LEFT: bool>(
    panel: &mut [f32],
    source: PanelSource<E>,
    first: usize,
    width: usize,
) {
    let step = E::PARTS * WORDS;
    let column = source.depth.div_ceil(VALUES) * step;
    for (at, tiles) in panel.chunks_exact_mut(column).take(width / SIDE).enumerate() {
        for (block, tiles) in tiles.chunks_exact_mut(step).enumerate() {
            square::<E, LEFT>(tiles, source, first + at * SIDE, block * VALUES);
        }
    }
}

/// The tiles of 16 numbers from `first` on and of 32 values from `start` on; zeros beyond the source.
fn square<E: Words, const LEFT: bool>(tiles: &mut [f32], source: PanelSource<E>, first: usize, start: usize) {
    let PanelSource { data, across, along, width, depth } = source;
    let (numbers, values) = (SIDE.min(width.saturating_sub(first)), VALUES.min(depth - start));
    if numbers == 0 {
        return tiles.fill(0.0);
    }
    let from = &data[first * across + start * along..];
    if numbers == SIDE && values == VALUES && (across == 1 || along == 1) {
        return whole::<E, LEFT>(tiles, from, across, along);
    }
    let mut near = [E::narrow(0.0); SIDE * VALUES];
    for (number, near) in near.chunks_exact_mut(VALUES).take(numbers).enumerate() {
        near[..values].iter_mut().enumerate().for_each(|(d, x)| *x = from[number * across + d * along]);
    }
    whole::<E, LEFT>(tiles, &near, VALUES, 1);
}

/// The tiles of 16 numbers and 32 values that all exist, and lie side by side one way or the other.
fn whole<E: Words, const LEFT: bool>(tiles: &mut [f32], from: &[E], across: usize, along: usize) {
    assert!(tiles.len() == E::PARTS * WORDS && (SIDE - 1) * across + (VALUES - 1) * along < from.len());
    #[cfg(target_arch = "x86_64")]
    if crate::device::cpu::simd::level() == crate::device::cpu::simd::Level::Avx512 {
        // SAFETY: AVX-512 was detected, and the assertion bounds what is read and written.
        return unsafe {
            match along {
                1 => avx512::by_number::<E, LEFT>(tiles.as_mut_ptr(), from.as_ptr(), across),
                _ => avx512::by_pair::<E, LEFT>(tiles.as_mut_ptr(), from.as_ptr(), along),
            }
        };
    }
    for number in 0..SIDE {
        for word in 0..SIDE {
            let at = number * across + 2 * word * along;
            let (even, odd) = (from[at].parts(), from[at + along].parts());
            let place = if LEFT { number * SIDE + word } else { word * SIDE + number };
            for part in 0..E::PARTS {
                tiles[part * WORDS + place] = pair(even[part], odd[part]);
            }
        }
    }
}

/// Writes `to[i * to_stride + j] = from[j * from_stride + i]` for 16 by 16 words.
pub fn transpose(to: &mut [f32], to_stride: usize, from: &[f32], from_stride: usize) {
    let reach = |stride: usize| (SIDE - 1) * stride + SIDE;
    assert!(reach(to_stride) <= to.len() && reach(from_stride) <= from.len());
    #[cfg(target_arch = "x86_64")]
    if crate::device::cpu::simd::level() == crate::device::cpu::simd::Level::Avx512 {
        // SAFETY: AVX-512 was detected, and the assertion bounds both.
        return unsafe { avx512::transpose(to.as_mut_ptr(), to_stride, from.as_ptr(), from_stride) };
    }
    for (i, line) in to.chunks_mut(to_stride).take(SIDE).enumerate() {
        line[..SIDE].iter_mut().enumerate().for_each(|(j, to)| *to = from[j * from_stride + i]);
    }
}

impl Words for bf16 {
    const PARTS: usize = 1;

    #[inline(always)]
    fn parts(self) -> [bf16; MOST] {
        [self, bf16::ZERO, bf16::ZERO]
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn lines(x: [*const bf16; 2]) -> [std::arch::x86_64::__m512i; MOST] {
        // SAFETY: the trait's contract.
        unsafe { avx512::interleaved(x) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn line(x: *const bf16) -> [std::arch::x86_64::__m512i; MOST] {
        // SAFETY: the trait's contract.
        unsafe { [std::ptr::read_unaligned(x.cast()); MOST] }
    }
}

/// The largest part of a value, and what is left of it. Of what is not finite, the part is all; of numbers that bf16
/// rounds to infinity, it is cut off.
#[inline(always)]
fn part(x: f32) -> (bf16, f32) {
    let nearest = bf16::narrow(x);
    let cut = bf16::from_bits((x.to_bits() >> 16) as u16);
    let part = if nearest.wide().is_infinite() { cut } else { nearest };
    (part, if x.is_finite() { x - part.wide() } else { 0.0 })
}

/// The parts of a value, the largest first.
#[inline(always)]
fn split(x: f32) -> [bf16; MOST] {
    let (first, rest) = part(x);
    let (second, rest) = part(rest);
    [first, second, part(rest).0]
}

impl Words for f32 {
    const PARTS: usize = 3;

    #[inline(always)]
    fn parts(self) -> [bf16; MOST] {
        split(self)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn lines(x: [*const f32; 2]) -> [std::arch::x86_64::__m512i; MOST] {
        // SAFETY: the trait's contract.
        unsafe { avx512::parts(x.map(|x| std::ptr::read_unaligned(x.cast()))) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn line(x: *const f32) -> [std::arch::x86_64::__m512i; MOST] {
        // SAFETY: the trait's contract.
        unsafe { avx512::parts(avx512::even_and_odd(x)) }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{MOST, SIDE, WORDS, Words};
    use std::arch::x86_64::*;

    /// The half of a float that is a bf16.
    const UPPER: i32 = 0xffff_0000_u32 as i32;

    /// Where the values of a number lie side by side.
    ///
    /// # Safety
    /// AVX-512 must have been detected; `from` must reach 16 numbers of 32 values, and `to` the tiles.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn by_number<E: Words, const LEFT: bool>(to: *mut f32, from: *const E, across: usize) {
        for number in 0..SIDE {
            // SAFETY: the caller's contract.
            unsafe { store::<E>(to.add(number * SIDE), E::line(from.add(number * across))) };
        }
        if !LEFT {
            // SAFETY: as above.
            (0..E::PARTS).for_each(|part| unsafe { transpose_in_place(to.add(part * WORDS)) });
        }
    }

    /// Where numbers lie side by side.
    ///
    /// # Safety
    /// As for [`by_number`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn by_pair<E: Words, const LEFT: bool>(to: *mut f32, from: *const E, along: usize) {
        for word in 0..SIDE {
            // SAFETY: the caller's contract.
            unsafe {
                let even = from.add(2 * word * along);
                store::<E>(to.add(word * SIDE), E::lines([even, even.add(along)]));
            }
        }
        if LEFT {
            // SAFETY: as above.
            (0..E::PARTS).for_each(|part| unsafe { transpose_in_place(to.add(part * WORDS)) });
        }
    }

    /// # Safety
    /// `to` must reach a line of each part's tile.
    #[inline(always)]
    unsafe fn store<E: Words>(to: *mut f32, parts: [__m512i; MOST]) {
        for (part, words) in parts.into_iter().take(E::PARTS).enumerate() {
            // SAFETY: the caller's contract.
            unsafe { to.add(part * WORDS).cast::<__m512i>().write_unaligned(words) };
        }
    }

    /// The words of 16 even and 16 odd values.
    ///
    /// # Safety
    /// AVX-512 must have been detected, and the values must exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn interleaved(x: [*const half::bf16; 2]) -> [__m512i; MOST] {
        // SAFETY: the caller's contract.
        let [even, odd] = x.map(|x| _mm512_cvtepu16_epi32(unsafe { x.cast::<__m256i>().read_unaligned() }));
        [_mm512_or_si512(even, _mm512_slli_epi32::<16>(odd)); MOST]
    }

    /// The even and the odd ones of 32 values.
    ///
    /// # Safety
    /// AVX-512 must have been detected, and the values must exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn even_and_odd(x: *const f32) -> [__m512; 2] {
        // SAFETY: the caller's contract.
        let (low, high) = unsafe { (_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(SIDE))) };
        let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        [even, odd].map(|which| _mm512_permutex2var_ps(low, which, high))
    }

    /// The words of each part of even and odd values, as `split` has them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub fn parts(x: [__m512; 2]) -> [__m512i; MOST] {
        /// From this magnitude on a part may have to be cut off.
        const LARGE: i32 = 0x7f00_0000;
        let magnitude = |x| _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MAX));
        let largest = _mm512_max_epu32(magnitude(x[0]), magnitude(x[1]));
        match _mm512_cmpge_epu32_mask(largest, _mm512_set1_epi32(LARGE)) {
            0 => words_of_parts(x, |x| {
                let part = nearest(x);
                (part, _mm512_sub_ps(x, _mm512_castsi512_ps(part)))
            }),
            _ => words_of_parts(x, |x| part(x)),
        }
    }

    /// The words of what `part` takes from even and odd values and leaves of them, again and again.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn words_of_parts(
        [mut even, mut odd]: [__m512; 2],
        part: impl Fn(__m512) -> (__m512i, __m512),
    ) -> [__m512i; MOST] {
        let mut words = [_mm512_setzero_si512(); MOST];
        for word in &mut words {
            let (low, high);
            (low, even) = part(even);
            (high, odd) = part(odd);
            *word = _mm512_or_si512(_mm512_srli_epi32::<16>(low), high);
        }
        words
    }

    /// The nearest bf16 of numbers, in the upper half of each word, ties to even.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn nearest(x: __m512) -> __m512i {
        let bits = _mm512_castps_si512(x);
        let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff));
        _mm512_and_si512(_mm512_add_epi32(bits, half), _mm512_set1_epi32(UPPER))
    }

    /// The largest part of values, in the upper half of each word, and what is left of them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn part(x: __m512) -> (__m512i, __m512) {
        /// Classes of floats: quiet and signalling NaN; infinities.
        const NAN: i32 = 0x81;
        const INFINITE: i32 = 0x18;
        let (bits, nearest) = (_mm512_castps_si512(x), nearest(x));
        let nan = _mm512_fpclass_ps_mask::<NAN>(x);
        // What rounds to infinity, or is no number, is cut off.
        let beyond = _mm512_fpclass_ps_mask::<{ NAN | INFINITE }>(_mm512_castsi512_ps(nearest)) | nan;
        let part = _mm512_mask_and_epi32(nearest, beyond, bits, _mm512_set1_epi32(UPPER));
        let part = _mm512_mask_or_epi32(part, nan, part, _mm512_set1_epi32(0x0040_0000));
        let finite = !_mm512_fpclass_ps_mask::<{ NAN | INFINITE }>(x);
        (part, _mm512_maskz_sub_ps(finite, x, _mm512_castsi512_ps(part)))
    }

    /// # Safety
    /// As for [`transpose`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn transpose_in_place(tile: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { transpose(tile, SIDE, tile, SIDE) }
    }

    /// Writes 16 lines of 16 words transposed; they may be the same lines.
    ///
    /// # Safety
    /// AVX-512 must have been detected, and both pointers must reach 16 lines, so many words apart.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn transpose(to: *mut f32, to_stride: usize, from: *const f32, from_stride: usize) {
        // SAFETY: the caller's contract.
        let rows: [__m512i; SIDE] =
            std::array::from_fn(|i| unsafe { from.add(i * from_stride).cast::<__m512i>().read_unaligned() });
        let mut pairs = rows;
        for i in 0..8 {
            pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        let mut quads = pairs;
        for i in 0..4 {
            for j in 0..2 {
                let (a, b) = (pairs[4 * i + j], pairs[4 * i + 2 + j]);
                quads[4 * i + 2 * j] = _mm512_unpacklo_epi64(a, b);
                quads[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(a, b);
            }
        }
        // Quad i, j holds, in lane l, column 4 l + j of rows 4 i .. 4 i + 4.
        for j in 0..4 {
            let [a, b, c, d] = [quads[j], quads[4 + j], quads[8 + j], quads[12 + j]];
            let (near, far) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
            let (near_next, far_next) =
                (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
            let lanes = [
                _mm512_shuffle_i32x4::<0x88>(near, near_next),
                _mm512_shuffle_i32x4::<0xdd>(near, near_next),
                _mm512_shuffle_i32x4::<0x88>(far, far_next),
                _mm512_shuffle_i32x4::<0xdd>(far, far_next),
            ];
            for (lane, row) in lanes.into_iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe { to.add((4 * lane + j) * to_stride).cast::<__m512i>().write_unaligned(row) };
            }
        }
    }
}
