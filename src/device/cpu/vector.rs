//! Elementwise sums and reductions over slices. Lengths must agree; the shorter one decides.

use rayon::prelude::*;

use super::math::exp_nonpositive;
use super::simd::{fma, lane_max, lane_sum, multiversion};

/// Elements per partial sum of [`sum_squares`]; fixed, so that the sum does not depend on the threads.
const PARTIAL: usize = 1 << 16;

multiversion! {
    /// `y += x`.
    pub fn add_assign(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }

    /// `c = a + b`.
    pub fn add(c: &mut [f32], a: &[f32], b: &[f32]) {
        for ((c, &a), &b) in c.iter_mut().zip(a).zip(b) {
            *c = a + b;
        }
    }

    /// `y += a x`.
    pub fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = fma::<FMA>(a, x, *y);
        }
    }

    /// `y *= a`.
    pub fn scale(y: &mut [f32], a: f32) {
        for y in y {
            *y *= a;
        }
    }

    /// `sum a b`.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        let n = a.len().min(b.len());
        let (a, b) = (&a[..n], &b[..n]);
        lane_sum([a, b], |[a, b]| a * b)
    }

    /// `sum x`.
    pub fn sum(x: &[f32]) -> f32 {
        lane_sum([x], |[x]| x)
    }

    /// Largest element, `-inf` of nothing; a NaN is passed over.
    pub fn largest(x: &[f32]) -> f32 {
        lane_max(x)
    }

    /// `sum e^(x - most)` for `most` the largest element.
    pub fn sum_exponentials(x: &[f32], most: f32) -> f32 {
        lane_sum([x], |[x]| exp_nonpositive::<FMA>(x - most))
    }

    fn sum_squares_partial(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; 32];
        let chunks = x.chunks_exact(32);
        for (lane, &v) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane = v as f64 * v as f64;
        }
        for chunk in chunks {
            for (lane, &v) in lanes.iter_mut().zip(chunk) {
                *lane += v as f64 * v as f64;
            }
        }
        lanes.iter().sum()
    }
}

/// `sum x^2` in f64, on all threads.
pub fn sum_squares(x: &[f32]) -> f64 {
    let partial: Vec<f64> = x.par_chunks(PARTIAL).map(sum_squares_partial).collect();
    partial.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::simd::on_every_level;

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.4).collect()
    }

    #[test]
    fn elementwise() {
        on_every_level(|| {
            let x = ramp(131);
            let mut y = vec![1.0; 131];
            axpy(&mut y, 2.0, &x);
            scale(&mut y, 0.5);
            add_assign(&mut y, &x);
            let mut z = vec![f32::NAN; 131];
            add(&mut z, &y, &x);
            for i in 0..131 {
                assert!((z[i] - (0.5 + 3.0 * x[i])).abs() <= 1e-6);
            }
        });
    }

    #[test]
    fn reductions_match_f64() {
        on_every_level(|| {
            for n in [0, 1, 63, 64, 1000, 200_003] {
                let (a, b) = (ramp(n), ramp(n + 5)[5..].to_vec());
                let wide = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
                let tolerance = 1e-6 * (n as f64).sqrt().max(1.0) * 4.0;
                let exact = wide(&|i| a[i] as f64 * b[i] as f64);
                assert!((dot(&a, &b) as f64 - exact).abs() <= tolerance);
                assert!((sum(&a) as f64 - wide(&|i| a[i] as f64)).abs() <= tolerance);
                let exact = wide(&|i| (a[i] as f64).powi(2));
                assert!((sum_squares(&a) - exact).abs() <= 1e-12 * exact.max(1.0));
            }
        });
    }

    #[test]
    fn sum_squares_does_not_depend_on_the_threads() {
        let x = ramp(300_001);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| sum_squares(&x)).to_bits()
        };
        assert_eq!(on(1), on(2));
        assert_eq!(on(1), on(3));
    }
}
