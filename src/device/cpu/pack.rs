//! Panels: a strip of a matrix, copied so that the register tile reads it in order.

use super::simd::multiversion;
use crate::shape::Stored;
use half::bf16;

/// A matrix seen as panels: element `(w, d)` at `w * across + d * along` of `data`.
#[derive(Clone, Copy)]
pub struct PanelSource<'a, E = f32> {
    pub data: &'a [E],
    pub across: usize,
    pub along: usize,
    /// Valid elements across; what is beyond packs as zero.
    pub width: usize,
    pub depth: usize,
}

/// Writes `panel[d * width + w] = source(first + w, d)`.
pub fn pack_panel(panel: &mut [f32], source: PanelSource, first: usize, width: usize) {
    pack::<Floats>(panel, source, first, width);
}

/// As [`pack_panel`], of bf16 that are widened.
pub fn pack_widened(panel: &mut [f32], source: PanelSource<bf16>, first: usize, width: usize) {
    pack::<Widened>(panel, source, first, width);
}

/// Writes `panel[d * width + w]`, the values `2 d` and `2 d + 1` of number `first + w` in one word, the even one in its
/// lower half; a value beyond the depth is zero.
pub fn pack_pairs(panel: &mut [f32], source: PanelSource<bf16>, first: usize, width: usize) {
    pack::<Pairs>(panel, source, first, width);
}

/// How the words of a panel are made of what is stored.
trait Words {
    type Stored: Copy;
    /// Values of depth in a word.
    const VALUES: usize;
    /// The word of values that lie `step` apart, the first of them at the start of `from`; `count` of them exist.
    fn word(from: &[Self::Stored], step: usize, count: usize) -> f32;
    /// The words of values that lie side by side across, `step` apart along.
    fn line(to: &mut [f32], from: &[Self::Stored], step: usize, count: usize);
    /// Eight words of values that lie side by side along.
    ///
    /// # Safety
    /// AVX2 must have been detected, and the values exist.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(from: *const Self::Stored) -> std::arch::x86_64::__m256;
}

struct Floats;

impl Words for Floats {
    type Stored = f32;
    const VALUES: usize = 1;

    #[inline(always)]
    fn word(from: &[f32], _: usize, _: usize) -> f32 {
        from[0]
    }

    #[inline(always)]
    fn line(to: &mut [f32], from: &[f32], _: usize, _: usize) {
        // Copies of known length spare a call to memcpy for each line.
        match to.len() {
            48 => to[..48].copy_from_slice(&from[..48]),
            8 => to[..8].copy_from_slice(&from[..8]),
            len => to.copy_from_slice(&from[..len]),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load(from: *const f32) -> std::arch::x86_64::__m256 {
        // SAFETY: the trait's contract.
        unsafe { std::arch::x86_64::_mm256_loadu_ps(from) }
    }
}

struct Widened;

impl Words for Widened {
    type Stored = bf16;
    const VALUES: usize = 1;

    #[inline(always)]
    fn word(from: &[bf16], _: usize, _: usize) -> f32 {
        from[0].wide()
    }

    #[inline(always)]
    fn line(to: &mut [f32], from: &[bf16], _: usize, _: usize) {
        widen(to, from);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load(from: *const bf16) -> std::arch::x86_64::__m256 {
        use super::microkernel::Vector;
        // SAFETY: the trait's contract.
        unsafe { std::arch::x86_64::__m256::load_bf16(from) }
    }
}

struct Pairs;

impl Words for Pairs {
    type Stored = bf16;
    const VALUES: usize = 2;

    #[inline(always)]
    fn word(from: &[bf16], step: usize, count: usize) -> f32 {
        pair(from[0], if count > 1 { from[step] } else { bf16::ZERO })
    }

    #[inline(always)]
    fn line(to: &mut [f32], from: &[bf16], step: usize, count: usize) {
        match count > 1 {
            true => interleave(to, from, &from[step..]),
            false => to.iter_mut().zip(from).for_each(|(word, &x)| *word = pair(x, bf16::ZERO)),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load(from: *const bf16) -> std::arch::x86_64::__m256 {
        // SAFETY: the trait's contract: eight words are 16 values.
        unsafe { std::arch::x86_64::_mm256_loadu_ps(from.cast()) }
    }
}

/// Two values in one word, the even one in its lower half.
#[inline(always)]
pub fn pair(even: bf16, odd: bf16) -> f32 {
    f32::from_bits(u32::from(even.to_bits()) | u32::from(odd.to_bits()) << 16)
}

multiversion! {
    fn widen(to: &mut [f32], from: &[bf16]) {
        for (word, from) in to.iter_mut().zip(from) {
            *word = from.wide();
        }
    }

    fn interleave(to: &mut [f32], even: &[bf16], odd: &[bf16]) {
        for ((word, &even), &odd) in to.iter_mut().zip(even).zip(odd) {
            *word = pair(even, odd);
        }
    }
}

fn pack<W: Words>(panel: &mut [f32], source: PanelSource<W::Stored>, first: usize, width: usize) {
    let PanelSource { data, across, along, depth, .. } = source;
    let valid = width.min(source.width - first);
    let words = depth.div_ceil(W::VALUES);
    let data = &data[first * across..];
    if valid < width {
        panel[..words * width].fill(0.0);
    }
    let step = W::VALUES * along;
    let count = |d: usize| W::VALUES.min(depth - d * W::VALUES);
    if across == 1 {
        for (d, line) in panel.chunks_exact_mut(width).take(words).enumerate() {
            W::line(&mut line[..valid], &data[d * step..], along, count(d));
        }
        return;
    }
    let (whole_w, whole_d) = match along {
        1 => transpose::<W>(panel, width, data, across, (valid, depth / W::VALUES)),
        _ => (0, 0),
    };
    for d in 0..words {
        let done = if d < whole_d { whole_w } else { 0 };
        for w in done..valid {
            panel[d * width + w] = W::word(&data[w * across + d * step..], along, count(d));
        }
    }
}

/// Writes `to[d * to_stride + w]`, the word of the values that lie side by side from `from[w * across]` on, for as many
/// whole squares of words as there are where the processor transposes them; how many numbers and words that were.
fn transpose<W: Words>(
    to: &mut [f32],
    to_stride: usize,
    from: &[W::Stored],
    across: usize,
    (valid, words): (usize, usize),
) -> (usize, usize) {
    #[cfg(target_arch = "x86_64")]
    if super::simd::level() >= super::simd::Level::Avx2 {
        let (whole_w, whole_d) = (valid - valid % avx2::SIDE, words - words % avx2::SIDE);
        if whole_w == 0 || whole_d == 0 {
            return (0, 0);
        }
        assert!((whole_d - 1) * to_stride + whole_w <= to.len());
        assert!((whole_w - 1) * across + whole_d * W::VALUES <= from.len());
        // SAFETY: AVX2 was detected, and the assertions bound every square.
        unsafe {
            avx2::transpose::<W>(to.as_mut_ptr(), to_stride, from.as_ptr(), across, (whole_w, whole_d))
        };
        return (whole_w, whole_d);
    }
    let _ = (to, to_stride, from, across, valid, words);
    (0, 0)
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Words;
    use std::arch::x86_64::*;

    /// Side of the square that is transposed in registers.
    pub const SIDE: usize = 8;

    /// # Safety
    /// AVX2 must have been detected, and both pointers must reach the whole squares.
    #[target_feature(enable = "avx2")]
    pub unsafe fn transpose<W: Words>(
        to: *mut f32,
        to_stride: usize,
        from: *const W::Stored,
        across: usize,
        (whole_w, whole_d): (usize, usize),
    ) {
        for d in (0..whole_d).step_by(SIDE) {
            for w in (0..whole_w).step_by(SIDE) {
                // SAFETY: the caller's contract: the square lies inside both.
                unsafe {
                    let (to, from) = (to.add(d * to_stride + w), from.add(w * across + d * W::VALUES));
                    square::<W>(to, to_stride, from, across);
                }
            }
        }
    }

    /// # Safety
    /// AVX2 must have been detected, and both pointers must reach eight rows of eight words.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn square<W: Words>(to: *mut f32, to_stride: usize, from: *const W::Stored, across: usize) {
        // SAFETY: the caller's contract.
        let row = |i: usize| unsafe { W::load(from.add(i * across)) };
        let mut pairs = [_mm256_setzero_ps(); 8];
        for i in 0..4 {
            let (a, b) = (row(2 * i), row(2 * i + 1));
            pairs[2 * i] = _mm256_unpacklo_ps(a, b);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(a, b);
        }
        let mut quads = [_mm256_setzero_ps(); 8];
        for half in 0..2 {
            for i in 0..2 {
                let (a, b) = (pairs[4 * half + i], pairs[4 * half + 2 + i]);
                quads[4 * half + 2 * i] = _mm256_shuffle_ps::<0x44>(a, b);
                quads[4 * half + 2 * i + 1] = _mm256_shuffle_ps::<0xee>(a, b);
            }
        }
        for j in 0..4 {
            let (a, b) = (quads[j], quads[4 + j]);
            // SAFETY: the caller's contract.
            unsafe {
                _mm256_storeu_ps(to.add(j * to_stride), _mm256_permute2f128_ps::<0x20>(a, b));
                _mm256_storeu_ps(to.add((4 + j) * to_stride), _mm256_permute2f128_ps::<0x31>(a, b));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_both_orientations_odd_depths_and_ragged_ends() {
        let data: Vec<bf16> = (0..9000).map(|i| bf16::from_bits(i as u16)).collect();
        for (across, along) in [(1, 61), (61, 1), (62, 1), (53, 2)] {
            for (total, depth, first, width) in [
                (48, 32, 0, 48),
                (29, 39, 24, 24),
                (64, 17, 32, 32),
                (13, 16, 8, 8),
                (1, 1, 0, 4),
                (8, 60, 0, 8),
            ] {
                let source = PanelSource { data: &data, across, along, width: total, depth };
                let mut panel = vec![f32::NAN; width * depth.div_ceil(2)];
                pack_pairs(&mut panel, source, first, width);
                for d in 0..depth.next_multiple_of(2) {
                    for w in 0..width {
                        let want = match first + w < total && d < depth {
                            true => data[(first + w) * across + d * along].to_bits(),
                            false => 0,
                        };
                        let got = panel[d / 2 * width + w].to_bits() >> (16 * (d % 2)) & 0xffff;
                        assert_eq!(got, u32::from(want), "({w}, {d}) of {width}x{depth}");
                    }
                }
            }
        }
    }

    #[test]
    fn panels_of_both_orientations_and_ragged_ends() {
        let data: Vec<f32> = (0..5000).map(|i| (i % 256) as f32).collect();
        let narrow: Vec<bf16> = data.iter().map(|&x| bf16::from_f32(x)).collect();
        for (across, along) in [(1, 61), (61, 1), (53, 2)] {
            for (total, depth, first, width) in
                [(48, 16, 0, 48), (29, 19, 24, 24), (64, 17, 32, 32), (13, 8, 8, 8), (1, 1, 0, 4)]
            {
                let source = PanelSource { data: &data, across, along, width: total, depth };
                let mut panel = vec![f32::NAN; width * depth];
                pack_panel(&mut panel, source, first, width);
                let source = PanelSource { data: &narrow, across, along, width: total, depth };
                let mut widened = vec![f32::NAN; width * depth];
                pack_widened(&mut widened, source, first, width);
                assert_eq!(widened, panel);
                for d in 0..depth {
                    for w in 0..width {
                        let want =
                            if first + w < total { data[(first + w) * across + d * along] } else { 0.0 };
                        assert_eq!(panel[d * width + w], want, "({w}, {d}) of {width}x{depth}");
                    }
                }
            }
        }
    }
}
