//! The AdamW update of one slice in one pass (Loshchilov and Hutter 2019; `torch.optim.AdamW`, or HF's own).

use super::simd::{fma, multiversion};

/// The scalars of one step.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    /// What the parameter shrinks to: decoupled decay.
    pub keep: f32,
    /// The learning rate, as far as the bias corrections change it.
    pub step_size: f32,
    /// The same of sqrt(v).
    pub root_scale: f32,
    /// Multiplies the gradient, for clipping and for averages over micro-batches.
    pub gradient_scale: f32,
}

multiversion! {
    /// Updates the parameter `p` and its moments `m` and `v` from the gradient `g`.
    pub fn adamw_update(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], step: AdamW) {
        let n = p.len();
        let (m, v, g) = (&mut m[..n], &mut v[..n], &g[..n]);
        let (gain1, gain2) = (1.0 - step.beta1, 1.0 - step.beta2);
        let AdamW { beta2, epsilon, keep, step_size, root_scale, gradient_scale, .. } = step;
        for i in 0..n {
            let g = g[i] * gradient_scale;
            m[i] = fma::<FMA>(gain1, g - m[i], m[i]);
            v[i] = fma::<FMA>(gain2, g * g, v[i] * beta2);
            let root = fma::<FMA>(v[i].sqrt(), root_scale, epsilon);
            p[i] = fma::<FMA>(-step_size, m[i] / root, p[i] * keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::simd::on_every_level;

    #[test]
    fn ten_steps_follow_the_paper_in_f64() {
        on_every_level(|| {
            // The scalars as f32 holds them: 1 - 0.999 is another number in f64.
            let [lr, b1, b2, eps, wd, scale] = [1e-2f32, 0.9, 0.999, 1e-8, 0.1, 0.5].map(f64::from);
            let n = 37;
            let mut p: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
            let (mut m, mut v) = (vec![0.0f32; n], vec![0.0f32; n]);
            let mut wide: Vec<[f64; 3]> = p.iter().map(|&p| [p as f64, 0.0, 0.0]).collect();
            for t in 1..=10 {
                let g: Vec<f32> = (0..n).map(|i| ((i + t) as f32 * 1.7).cos()).collect();
                let step = AdamW {
                    beta1: b1 as f32,
                    beta2: b2 as f32,
                    epsilon: eps as f32,
                    keep: (1.0 - lr * wd) as f32,
                    step_size: (lr / (1.0 - f64::powi(b1, t as i32))) as f32,
                    root_scale: (1.0 / (1.0 - f64::powi(b2, t as i32)).sqrt()) as f32,
                    gradient_scale: scale as f32,
                };
                adamw_update(&mut p, &mut m, &mut v, &g, step);
                for (state, &g) in wide.iter_mut().zip(&g) {
                    let g = g as f64 * scale;
                    state[1] = b1 * state[1] + (1.0 - b1) * g;
                    state[2] = b2 * state[2] + (1.0 - b2) * g * g;
                    let m_hat = state[1] / (1.0 - f64::powi(b1, t as i32));
                    let v_hat = state[2] / (1.0 - f64::powi(b2, t as i32));
                    state[0] -= lr * (m_hat / (v_hat.sqrt() + eps) + wd * state[0]);
                }
            }
            for (got, want) in p.iter().zip(&wide) {
                assert!((*got as f64 - want[0]).abs() <= 2e-6, "{got} for {}", want[0]);
            }
        });
    }
}
