//! Panels: a strip of a matrix, copied so that the register tile reads it in order.

/// A matrix seen as panels: element `(w, d)` at `w * across + d * along` of `data`.
#[derive(Clone, Copy)]
pub struct PanelSource<'a> {
    pub data: &'a [f32],
    pub across: usize,
    pub along: usize,
    /// Valid elements across; what is beyond packs as zero.
    pub width: usize,
    pub depth: usize,
}

/// Side of the square that is transposed in registers.
const SQUARE: usize = 8;

/// Writes `panel[d * width + w] = source(first + w, d)`.
pub fn pack_panel(panel: &mut [f32], source: PanelSource, first: usize, width: usize) {
    let PanelSource { data, across, along, depth, .. } = source;
    let valid = width.min(source.width - first);
    let data = &data[first * across..];
    if valid < width {
        panel[..depth * width].fill(0.0);
    }
    if across == 1 {
        let lines = panel.chunks_exact_mut(width).take(depth).enumerate();
        // Copies of known length spare a call to memcpy for each line.
        match valid {
            32 => lines.for_each(|(d, line)| copy::<32>(line, &data[d * along..])),
            8 => lines.for_each(|(d, line)| copy::<8>(line, &data[d * along..])),
            _ => lines.for_each(|(d, line)| {
                line[..valid].copy_from_slice(&data[d * along..d * along + valid]);
            }),
        }
        return;
    }
    let (whole_w, whole_d) = match along {
        1 => (valid - valid % SQUARE, depth - depth % SQUARE),
        _ => (0, 0),
    };
    transpose(panel, width, data, across, (whole_w, whole_d));
    for d in 0..depth {
        let done = if d < whole_d { whole_w } else { 0 };
        for w in done..valid {
            panel[d * width + w] = data[w * across + d * along];
        }
    }
}

#[inline(always)]
fn copy<const N: usize>(to: &mut [f32], from: &[f32]) {
    to[..N].copy_from_slice(&from[..N]);
}

/// `to[d * to_stride + w] = from[w * from_stride + d]` for whole squares.
fn transpose(
    to: &mut [f32],
    to_stride: usize,
    from: &[f32],
    from_stride: usize,
    (whole_w, whole_d): (usize, usize),
) {
    if whole_w == 0 || whole_d == 0 {
        return;
    }
    assert!((whole_d - 1) * to_stride + whole_w <= to.len());
    assert!((whole_w - 1) * from_stride + whole_d <= from.len());
    #[cfg(target_arch = "x86_64")]
    if super::simd::level() >= super::simd::Level::Avx2 {
        let (to, from) = (to.as_mut_ptr(), from.as_ptr());
        // SAFETY: AVX2 was detected, and the assertions bound every square.
        unsafe { transpose_avx2(to, to_stride, from, from_stride, (whole_w, whole_d)) };
        return;
    }
    for d in 0..whole_d {
        for w in 0..whole_w {
            to[d * to_stride + w] = from[w * from_stride + d];
        }
    }
}

/// # Safety
/// AVX2 must have been detected, and both pointers must reach the whole squares.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_avx2(
    to: *mut f32,
    to_stride: usize,
    from: *const f32,
    from_stride: usize,
    (whole_w, whole_d): (usize, usize),
) {
    for w in (0..whole_w).step_by(SQUARE) {
        for d in (0..whole_d).step_by(SQUARE) {
            // SAFETY: the caller's contract: the square lies inside both.
            unsafe {
                let (to, from) = (to.add(d * to_stride + w), from.add(w * from_stride + d));
                transpose_square(to, to_stride, from, from_stride);
            }
        }
    }
}

/// # Safety
/// AVX2 must have been detected, and both pointers must reach eight rows of eight floats.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose_square(to: *mut f32, to_stride: usize, from: *const f32, from_stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's contract.
    let row = |i: usize| unsafe { _mm256_loadu_ps(from.add(i * from_stride)) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_of_both_orientations_and_ragged_ends() {
        let data: Vec<f32> = (0..5000).map(|i| i as f32).collect();
        for (across, along) in [(1, 61), (61, 1), (53, 2)] {
            for (total, depth, first, width) in
                [(48, 16, 0, 48), (29, 19, 24, 24), (64, 17, 32, 32), (13, 8, 8, 8), (1, 1, 0, 4)]
            {
                let source = PanelSource { data: &data, across, along, width: total, depth };
                let mut panel = vec![f32::NAN; width * depth];
                pack_panel(&mut panel, source, first, width);
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
