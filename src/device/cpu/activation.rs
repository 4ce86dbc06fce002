//! Activations over slices. A backward adds to `dx`.

use super::math::{erf, exp, tanh};
use super::simd::{fma, multiversion};

const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// 1 / sqrt(2 pi)
const NORMAL_PEAK: f32 = 0.398_942_3;
/// sqrt(2 / pi)
const TANH_SCALE: f32 = 0.797_884_6;
const TANH_CUBIC: f32 = 0.044_715;

#[inline(always)]
fn tanh_argument<const FMA: bool>(x: f32) -> f32 {
    TANH_SCALE * fma::<FMA>(TANH_CUBIC * x * x, x, x)
}

multiversion! {
    /// `y = x Phi(x)` with the exact error function (HF `gelu`).
    pub fn gelu(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = 0.5 * x * (1.0 + erf::<FMA>(x * SQRT_HALF));
        }
    }

    /// `dx += dy (Phi(x) + x phi(x))`.
    pub fn gelu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
        for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
            let cdf = fma::<FMA>(0.5, erf::<FMA>(x * SQRT_HALF), 0.5);
            let pdf = NORMAL_PEAK * exp::<FMA>(-0.5 * x * x);
            *dx = fma::<FMA>(dy, fma::<FMA>(x, pdf, cdf), *dx);
        }
    }

    /// The tanh form of GELU (HF `gelu_new`, `gelu_pytorch_tanh`).
    pub fn gelu_tanh(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = 0.5 * x * (1.0 + tanh::<FMA>(tanh_argument::<FMA>(x)));
        }
    }

    /// `dx += dy` times the derivative of [`gelu_tanh`].
    pub fn gelu_tanh_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
        for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
            let t = tanh::<FMA>(tanh_argument::<FMA>(x));
            let slope = TANH_SCALE * fma::<FMA>(3.0 * TANH_CUBIC * x, x, 1.0);
            let inner = 0.5 * x * (1.0 - t * t) * slope;
            *dx = fma::<FMA>(dy, fma::<FMA>(0.5, t, 0.5) + inner, *dx);
        }
    }

    /// `y = max(x, 0)`; a NaN stays one.
    pub fn relu(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if x < 0.0 { 0.0 } else { x };
        }
    }

    /// `dx += dy` where x > 0.
    pub fn relu_backward(dx: &mut [f32], dy: &[f32], x: &[f32]) {
        for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
            *dx += if x > 0.0 { dy } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::simd::on_every_level;

    /// Ragged on purpose: not a multiple of any vector.
    fn grid() -> Vec<f32> {
        (0..1237).map(|i| (i as f32 - 618.0) / 100.0).collect()
    }

    /// Phi by Simpson's rule over the density, in f64.
    fn normal_cdf(x: f64) -> f64 {
        let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let steps = 2000;
        let h = x / steps as f64;
        let inner: f64 = (1..steps).map(|i| density(i as f64 * h) * if i % 2 == 0 { 2.0 } else { 4.0 }).sum();
        0.5 + (density(0.0) + inner + density(x)) * h / 3.0
    }

    fn gelu_exact(x: f64) -> f64 {
        x * normal_cdf(x)
    }

    fn gelu_tanh_exact(x: f64) -> f64 {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        0.5 * x * (1.0 + inner.tanh())
    }

    type Forward = fn(&mut [f32], &[f32]);
    type Backward = fn(&mut [f32], &[f32], &[f32]);

    fn check(forward: Forward, backward: Backward, exact: fn(f64) -> f64) {
        let x = grid();
        let mut y = vec![f32::NAN; x.len()];
        forward(&mut y, &x);
        let dy: Vec<f32> = (0..x.len()).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut dx = vec![0.25f32; x.len()];
        backward(&mut dx, &dy, &x);
        for i in 0..x.len() {
            let at = x[i] as f64;
            let error = (y[i] as f64 - exact(at)).abs();
            assert!(error <= 4e-7 * at.abs().max(1.0), "forward at {at}: off by {error}");
            let h = 1e-4;
            let slope = (exact(at + h) - exact(at - h)) / (2.0 * h);
            let error = (dx[i] as f64 - 0.25 - dy[i] as f64 * slope).abs();
            assert!(error <= 1e-6, "backward at {at}: off by {error}");
        }
    }

    #[test]
    fn gelu_matches_the_integral() {
        on_every_level(|| check(gelu, gelu_backward, gelu_exact));
    }

    #[test]
    fn gelu_tanh_matches_its_formula() {
        on_every_level(|| check(gelu_tanh, gelu_tanh_backward, gelu_tanh_exact));
    }

    #[test]
    fn relu_and_its_gradient() {
        let x = [-1.0, 0.0, 2.0, -0.0, 5.0];
        let mut y = [9.0; 5];
        relu(&mut y, &x);
        assert_eq!(y, [0.0, 0.0, 2.0, 0.0, 5.0]);
        let mut dx = [1.0; 5];
        relu_backward(&mut dx, &[0.5; 5], &x);
        assert_eq!(dx, [1.0, 1.0, 1.5, 1.0, 1.5]);
    }
}
