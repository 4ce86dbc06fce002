//! Both operands in bf16: where the processor multiplies pairs of them, twice the products in a cycle.

use half::bf16;

use super::{Rows, Size, Store, gemm};
use crate::device::cpu::gemm::Matrix;
use half::slice::HalfFloatSliceExt;

/// `C (+)= x Wᵀ` for x `[m, k]`, W `[n, k]` and C `[m, n]`; the caller checked the sizes.
pub fn gemm_bf16(c: &mut [f32], x: &[bf16], w: &[bf16], size: Size, store: Store) {
    let w = Rows { data: w, stride: size.k };
    #[cfg(target_arch = "x86_64")]
    if pairs::detected() {
        return pairs::gemm(c, x, w, size, store);
    }
    let x = x.to_f32_vec();
    gemm(c, size.n, Matrix::rows(&x, size.k), w, size, 1.0, store);
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::super::{MOST_ROWS, W_ROWS, X_ROWS, share_out};
    use super::{Rows, Size, Store};
    use crate::device::cpu::simd::{Level, level};
    use half::bf16;
    use std::arch::x86_64::*;

    /// Numbers in a register.
    const LANES: usize = 32;

    pub fn detected() -> bool {
        level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16")
    }

    pub fn gemm(c: &mut [f32], x: &[bf16], w: Rows<bf16>, size: Size, store: Store) {
        // SAFETY: the caller detected the instructions.
        let group = |first, out: &mut _| unsafe { rows(out, x, &w, first, size) };
        share_out(c, size.n, size, size_of::<bf16>(), |value| value, store, group);
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
        let w_rows = w.group(first, size);
        let row = |i: usize| &x[i * size.k..(i + 1) * size.k];
        for i in (0..size.m).step_by(X_ROWS) {
            let out = &mut out[i * W_ROWS..];
            // SAFETY: every row is `k` long, and the caller detected the instructions.
            unsafe {
                match size.m - i {
                    1 => lines::<1, 4>(out, [row(i)], w_rows),
                    2 => lines::<2, 2>(out, [row(i), row(i + 1)], w_rows),
                    3 => lines::<3, 2>(out, [row(i), row(i + 1), row(i + 2)], w_rows),
                    _ if i == 0 => lines::<4, 2>(out, [row(0), row(1), row(2), row(3)], w_rows),
                    _ => block(out, [row(i), row(i + 1), row(i + 2), row(i + 3)], w_rows),
                }
            }
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

    /// One row of W after the other, in the order of memory, against `X` rows of x with `U` sums each.
    ///
    /// # Safety
    /// All rows must be equally long, and the instructions must exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn lines<const X: usize, const U: usize>(out: &mut [f32], x: [&[bf16]; X], w: [&[bf16]; W_ROWS]) {
        for (j, w) in w.into_iter().enumerate() {
            let mut sums = [[_mm512_setzero_ps(); U]; X];
            let mut p = 0;
            while p < w.len() {
                for u in 0..U {
                    let at = p + u * LANES;
                    let count = w.len().saturating_sub(at);
                    if count == 0 {
                        break;
                    }
                    // SAFETY: `at < len`, and `count` says how many follow.
                    unsafe {
                        let column = load(w.as_ptr().add(at), count);
                        for (sums, x) in sums.iter_mut().zip(&x) {
                            sums[u] = _mm512_dpbf16_ps(sums[u], load(x.as_ptr().add(at), count), column);
                        }
                    }
                }
                p += U * LANES;
            }
            for (i, sums) in sums.into_iter().enumerate() {
                let sum = sums.into_iter().reduce(|a, b| _mm512_add_ps(a, b));
                out[i * W_ROWS + j] = sum.map_or(0.0, |sum| _mm512_reduce_add_ps(sum));
            }
        }
    }

    /// Four rows of W, which are near by now, against four of x.
    ///
    /// # Safety
    /// All rows must be equally long, and the instructions must exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn block(out: &mut [f32], x: [&[bf16]; X_ROWS], w: [&[bf16]; W_ROWS]) {
        let k = w[0].len();
        let mut sums = [[_mm512_setzero_ps(); W_ROWS]; X_ROWS];
        for p in (0..k).step_by(LANES) {
            // SAFETY: `p < k`, and `k - p` says how many follow.
            unsafe {
                let columns = w.map(|w| load(w.as_ptr().add(p), k - p));
                for (sums, x) in sums.iter_mut().zip(&x) {
                    let x = load(x.as_ptr().add(p), k - p);
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
    use crate::device::cpu::narrow::Stored;
    use crate::device::cpu::simd::on_every_level;

    #[test]
    fn products_of_every_height_and_of_ragged_rows() {
        let noise = |n: usize, seed: usize| -> Vec<bf16> {
            (0..n)
                .map(|i| bf16::from_f32(((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0))
                .collect()
        };
        on_every_level(|| {
            for (m, n, k) in
                [(1, 5, 64), (2, 9, 100), (3, 4, 768), (4, 131, 65), (8, 66, 96), (15, 7, 333), (16, 8, 64)]
            {
                let (x, w) = (noise(m * k, 1), noise(n * k, 2));
                let mut c = vec![0.5f32; m * n];
                gemm_bf16(&mut c, &x, &w, Size { m, n, k }, Store::Add);
                for (at, got) in c.iter().enumerate() {
                    let (x, w) = (&x[at / n * k..][..k], &w[at % n * k..][..k]);
                    let want: f64 = x.iter().zip(w).map(|(x, w)| x.wide() as f64 * w.wide() as f64).sum();
                    let error = (*got as f64 - 0.5 - want).abs();
                    assert!(error <= 1e-6 + 6e-8 * k as f64, "[{m}, {n}, {k}] at {at}: off by {error}");
                }
            }
        });
    }
}
