//! Both operands in bf16: where the processor multiplies pairs of them, twice the products in a cycle.

use half::bf16;

use super::{Rows, Size, Store, gemm};
use crate::device::cpu::features::{Feature, allows, has};
use crate::device::cpu::gemm::Matrix;
use half::slice::HalfFloatSliceExt;

/// Most rows of x for which reading W takes longer than any way of multiplying: pairs then spare widening it.
#[cfg(target_arch = "x86_64")]
const READING: usize = 2;

/// `C (+)= x Wᵀ` for x `[m, k]`, W `[n, k]` and C `[m, n]`, whose row `i` starts at `i * c_stride`; the caller checked
/// the sizes.
pub fn gemm_bf16(c: &mut [f32], c_stride: usize, x: &[bf16], w: &[bf16], size: Size, store: Store) {
    let w = Rows { data: w, stride: size.k };
    #[cfg(target_arch = "x86_64")]
    if has(Feature::Avx512Bf16) || size.m <= READING && allows(Feature::Avx512Bf16) {
        return pairs::gemm(c, c_stride, x, w, size, store);
    }
    let x = x.to_f32_vec();
    gemm(c, c_stride, Matrix::rows(&x, size.k), w, size, 1.0, store);
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::super::{MOST_ROWS, Tile, W_ROWS, share_out, with_tile};
    use super::{Rows, Size, Store};
    use crate::device::cpu::microkernel::prefetch;
    use crate::device::cpu::simd::Level;
    use half::bf16;
    use std::arch::x86_64::*;

    /// Numbers in a register.
    const LANES: usize = 32;

    pub fn gemm(c: &mut [f32], c_stride: usize, x: &[bf16], w: Rows<bf16>, size: Size, store: Store) {
        // SAFETY: the caller detected the instructions.
        let group = |first, out: &mut _| unsafe { rows(out, x, &w, first, size) };
        let width = Tile::new(size.m, Level::Avx512).w;
        share_out(c, c_stride, size, (width, size_of::<bf16>()), |value| value, store, group);
    }

    /// # Safety
    /// AVX-512 with its bf16 products must have been detected.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn rows(
        out: &mut [f32; MOST_ROWS * W_ROWS],
        x: &[bf16],
        w: &Rows<bf16>,
        first: usize,
        size: Size,
    ) {
        let tile = Tile::new(size.m, Level::Avx512);
        for i in (0..size.m).step_by(tile.x) {
            let (out, x) = (&mut out[i * W_ROWS..], &x[i * size.k..]);
            let part = Tile { x: tile.x.min(size.m - i), ..tile };
            // SAFETY: every row is `k` long, and the caller detected the instructions.
            unsafe { with_tile!(part, block[](out, x, w, first, size, i == 0)) }
        }
    }

    /// Numbers from `from` on, zeros beyond `count` of them.
    ///
    /// # Safety
    /// As many lie behind the pointer, and the instructions must exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn load(from: *const bf16, count: usize) -> __m512bh {
        // SAFETY: lanes beyond `count` are not read; the two types are the same 64 bytes.
        unsafe {
            let bits = match count >= LANES {
                true => _mm512_loadu_si512(from.cast()),
                false => _mm512_maskz_loadu_epi16((1 << count) - 1, from.cast()),
            };
            std::mem::transmute::<__m512i, __m512bh>(bits)
        }
    }

    /// `W` rows of W against `X` rows of x; where `ahead`, the next `W` rows are fetched meanwhile.
    ///
    /// # Safety
    /// x must hold `X` rows of k, and the instructions must exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn block<const X: usize, const W: usize>(
        out: &mut [f32],
        x: &[bf16],
        w: &Rows<bf16>,
        first: usize,
        size: Size,
        ahead: bool,
    ) {
        let k = size.k;
        let rows: [&[bf16]; W] = w.group(first, size);
        let next = W * w.stride;
        let mut sums = [[_mm512_setzero_ps(); W]; X];
        for p in (0..k).step_by(LANES) {
            // SAFETY: `p < k`, and `k - p` says how many follow.
            unsafe {
                let columns = rows.map(|row| load(row.as_ptr().add(p), k - p));
                if ahead {
                    rows.iter().for_each(|row| prefetch(row.as_ptr().wrapping_add(p + next)));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = load(x.as_ptr().add(i * k + p), k - p);
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_dpbf16_ps(*sum, x, column);
                    }
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                out[i * W_ROWS + j] = _mm512_reduce_add_ps(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::simd::on_every_level;
    use crate::noise::random;
    use crate::shape::Stored;

    #[test]
    fn products_of_every_height_and_of_ragged_rows() {
        let narrow = |seed, n| -> Vec<bf16> { random(seed, n).into_iter().map(bf16::from_f32).collect() };
        on_every_level(|| {
            for (m, n, k) in [
                (1, 5, 64),
                (2, 9, 100),
                (3, 4, 768),
                (4, 131, 65),
                (5, 9, 96),
                (7, 10, 64),
                (8, 66, 96),
                (15, 7, 333),
                (16, 8, 64),
            ] {
                let (x, w) = (narrow(1, m * k), narrow(2, n * k));
                let stride = n + 3;
                let mut c = vec![0.5f32; (m - 1) * stride + n];
                gemm_bf16(&mut c, stride, &x, &w, Size { m, n, k }, Store::Add);
                let between = c.chunks(stride).flat_map(|row| row.get(n..).unwrap_or_default());
                assert!(
                    between.into_iter().all(|&value| value == 0.5),
                    "[{m}, {n}, {k}]: written beyond a row"
                );
                for (at, got) in c.chunks(stride).flat_map(|row| &row[..n]).enumerate() {
                    let (x, w) = (&x[at / n * k..][..k], &w[at % n * k..][..k]);
                    let want: f64 = x.iter().zip(w).map(|(x, w)| x.wide() as f64 * w.wide() as f64).sum();
                    let error = (*got as f64 - 0.5 - want).abs();
                    assert!(error <= 1e-6 + 6e-8 * k as f64, "[{m}, {n}, {k}] at {at}: off by {error}");
                }
            }
        });
    }
}
