//! Softmax over one long row, such as the logits of a vocabulary.

use super::math::exp;
use super::simd::{fma, lane_max, lane_sum, multiversion};

/// Exponentials held at a time while a row is summed.
const BLOCK: usize = 512;

multiversion! {
    /// Largest element, `-inf` for an empty row.
    pub fn max(x: &[f32]) -> f32 {
        lane_max(x)
    }

    /// `log sum exp x`; `-inf` for a row that is empty or all `-inf`.
    pub fn log_sum_exp(x: &[f32]) -> f32 {
        let max = lane_max(x);
        if max == f32::NEG_INFINITY {
            return max;
        }
        let mut powers = [0.0f32; BLOCK];
        let mut total = 0.0f64;
        for block in x.chunks(BLOCK) {
            let powers = &mut powers[..block.len()];
            for (p, &v) in powers.iter_mut().zip(block) {
                *p = exp::<FMA>(v - max);
            }
            total += lane_sum([&*powers], |[power]| power) as f64;
        }
        (max as f64 + total.ln()) as f32
    }

    /// `y = exp(x - lse)`: the probabilities of a row whose log-sum-exp is known; zeros where it is `-inf`.
    pub fn softmax_row(y: &mut [f32], x: &[f32], lse: f32) {
        // A row of -inf has no probabilities; -inf - -inf would be NaN.
        let shift = if lse == f32::NEG_INFINITY { 0.0 } else { lse };
        for (y, &x) in y.iter_mut().zip(x) {
            *y = exp::<FMA>(x - shift);
        }
    }

    /// `x = scale exp(x - lse) + shift`, in place; `shift` alone where `lse` is `-inf`.
    pub fn softmax_row_in_place(x: &mut [f32], lse: f32, scale: f32, shift: f32) {
        let lse = if lse == f32::NEG_INFINITY { 0.0 } else { lse };
        for x in x {
            *x = fma::<FMA>(scale, exp::<FMA>(*x - lse), shift);
        }
    }

    /// `y = x - lse`.
    pub fn log_softmax_row(y: &mut [f32], x: &[f32], lse: f32) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x - lse;
        }
    }

    /// `dx += scale exp(x - lse)`: the gradient of the log-sum-exp of a row.
    pub fn log_sum_exp_backward(dx: &mut [f32], scale: f32, x: &[f32], lse: f32) {
        let shift = if lse == f32::NEG_INFINITY { 0.0 } else { lse };
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = fma::<FMA>(scale, exp::<FMA>(x - shift), *dx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::simd::on_every_level;

    fn logits(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 10_007) as f32 / 500.0 - 12.0).collect()
    }

    #[test]
    fn rows_match_f64() {
        on_every_level(|| {
            for n in [1, 2, 65, 513, 50_265] {
                let x = logits(n);
                let exact = x.iter().map(|&v| (v as f64).exp()).sum::<f64>().ln();
                let lse = log_sum_exp(&x);
                assert!((lse as f64 - exact).abs() <= 2e-6, "n {n}: {lse} for {exact}");
                assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let (mut y, mut l, mut d) = (vec![f32::NAN; n], vec![f32::NAN; n], vec![1.0; n]);
                softmax_row(&mut y, &x, lse);
                log_softmax_row(&mut l, &x, lse);
                log_sum_exp_backward(&mut d, -3.0, &x, lse);
                for i in 0..n {
                    let want = (x[i] as f64 - exact).exp();
                    assert!((y[i] as f64 - want).abs() <= 4e-6 * want);
                    assert!((l[i] as f64 - (x[i] as f64 - exact)).abs() <= 4e-6);
                    assert!((d[i] as f64 - (1.0 - 3.0 * want)).abs() <= 1e-6);
                }
            }
        });
    }

    #[test]
    fn a_row_of_nothing() {
        on_every_level(|| {
            let x = [f32::NEG_INFINITY; 40];
            assert_eq!(log_sum_exp(&x), f32::NEG_INFINITY);
            assert_eq!(log_sum_exp(&[]), f32::NEG_INFINITY);
            let mut y = [7.0; 40];
            softmax_row(&mut y, &x, f32::NEG_INFINITY);
            assert_eq!(y, [0.0; 40]);
        });
    }

    #[test]
    fn masked_logits_have_no_weight() {
        let mut x = logits(100);
        x[37] = f32::NEG_INFINITY;
        let lse = log_sum_exp(&x);
        let mut y = vec![f32::NAN; 100];
        softmax_row(&mut y, &x, lse);
        assert_eq!(y[37], 0.0);
        assert!((y.iter().sum::<f32>() - 1.0).abs() <= 1e-6);
    }
}
