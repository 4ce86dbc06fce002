//! Layer normalisation of rows: `y = (x - mean) rstd w + b`, two-pass variance (Ba et al. 2016).

use super::simd::{fma, lane_sum, multiversion};

/// The two statistics of a row that the backward needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowStatistics {
    pub mean: f32,
    /// 1 / sqrt(variance + epsilon)
    pub rstd: f32,
}

multiversion! {
    /// One row `[C]`: writes `y`, returns what the backward needs.
    pub fn layer_norm_row(y: &mut [f32], x: &[f32], w: &[f32], b: &[f32], epsilon: f32) -> RowStatistics {
        let n = x.len();
        let (y, w, b) = (&mut y[..n], &w[..n], &b[..n]);
        let mean = lane_sum([x], |[x]| x) / n as f32;
        let variance = lane_sum([x], |[x]| (x - mean) * (x - mean)) / n as f32;
        let rstd = 1.0 / (variance + epsilon).sqrt();
        for i in 0..n {
            y[i] = fma::<FMA>((x[i] - mean) * rstd, w[i], b[i]);
        }
        RowStatistics { mean, rstd }
    }

    /// One row: adds to `dx`, `dw` and `db`, all `[C]`.
    pub fn layer_norm_row_backward(
        dx: &mut [f32],
        dw: &mut [f32],
        db: &mut [f32],
        dy: &[f32],
        x: &[f32],
        w: &[f32],
        statistics: RowStatistics,
    ) {
        let RowStatistics { mean, rstd } = statistics;
        let n = x.len();
        let (dx, dw, db) = (&mut dx[..n], &mut dw[..n], &mut db[..n]);
        let (dy, w) = (&dy[..n], &w[..n]);
        let g_mean = lane_sum([dy, w], |[dy, w]| dy * w) / n as f32;
        let gx_mean = lane_sum([x, dy, w], |[x, dy, w]| dy * w * ((x - mean) * rstd)) / n as f32;
        for i in 0..n {
            let xh = (x[i] - mean) * rstd;
            dw[i] = fma::<FMA>(dy[i], xh, dw[i]);
            db[i] += dy[i];
            let centred = fma::<FMA>(dy[i], w[i], -g_mean) - xh * gx_mean;
            dx[i] = fma::<FMA>(rstd, centred, dx[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::simd::on_every_level;

    const EPSILON: f32 = 1e-5;

    fn row(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| (((i + seed) * 7919 + seed) % 1013) as f32 / 506.0 - 1.0).collect()
    }

    fn exact(x: &[f64], w: &[f32], b: &[f32]) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let rstd = 1.0 / (variance + EPSILON as f64).sqrt();
        (0..x.len()).map(|i| (x[i] - mean) * rstd * w[i] as f64 + b[i] as f64).collect()
    }

    #[test]
    fn forward_matches_f64_even_far_from_zero() {
        on_every_level(|| {
            for (n, offset) in [(1, 0.0), (7, 0.0), (64, 3.0), (768, 1000.0), (1025, 0.0)] {
                let x: Vec<f32> = row(n, 1).iter().map(|v| v + offset).collect();
                let (w, b) = (row(n, 2), row(n, 3));
                let mut y = vec![f32::NAN; n];
                layer_norm_row(&mut y, &x, &w, &b, EPSILON);
                let wide: Vec<f64> = x.iter().map(|&v| v as f64).collect();
                for (got, want) in y.iter().zip(exact(&wide, &w, &b)) {
                    let tolerance = 2e-6 + offset as f64 * 4e-7;
                    assert!((*got as f64 - want).abs() <= tolerance, "n {n}: {got} for {want}");
                }
            }
        });
    }

    #[test]
    fn backward_matches_finite_differences() {
        on_every_level(|| {
            for n in [2, 7, 64, 129] {
                let (x, w, b, dy) = (row(n, 1), row(n, 2), row(n, 3), row(n, 4));
                let mut y = vec![0.0; n];
                let statistics = layer_norm_row(&mut y, &x, &w, &b, EPSILON);
                let (mut dx, mut dw, mut db) = (vec![1.0; n], vec![2.0; n], vec![3.0; n]);
                layer_norm_row_backward(&mut dx, &mut dw, &mut db, &dy, &x, &w, statistics);
                let loss =
                    |x: &[f64]| -> f64 { exact(x, &w, &b).iter().zip(&dy).map(|(y, d)| y * *d as f64).sum() };
                let wide: Vec<f64> = x.iter().map(|&v| v as f64).collect();
                let normalised = exact(&wide, &vec![1.0; n], &vec![0.0; n]);
                for i in 0..n {
                    let mut moved = wide.clone();
                    moved[i] += 1e-5;
                    let up = loss(&moved);
                    moved[i] -= 2e-5;
                    let slope = (up - loss(&moved)) / 2e-5;
                    assert!((dx[i] as f64 - 1.0 - slope).abs() <= 1e-5, "dx {i} of {n}");
                    let want = 2.0 + dy[i] as f64 * normalised[i];
                    assert!((dw[i] as f64 - want).abs() <= 2e-6, "dw {i} of {n}");
                    assert!((db[i] - 3.0 - dy[i]).abs() <= 1e-6, "db {i} of {n}");
                }
            }
        });
    }
}
