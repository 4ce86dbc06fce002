//! Attention by plain f64 loops over all pairs.

use crate::device::cpu::attention::{Attention, Pattern, Sizes};

/// How many times key `j` enters the softmax of query `i`; zero where it is not seen.
fn weight(a: &Attention, b: usize, h: usize, i: usize, j: usize) -> f64 {
    let Sizes { s, s_capacity, .. } = a.sizes;
    let seen = match a.pattern {
        Pattern::Dense { causal, key_state } => {
            causal.is_none_or(|offset| j <= i + offset)
                && key_state.is_none_or(|states| states[b * s_capacity + j] != 0)
        }
        Pattern::Window { window, key_state, .. } => {
            let state = key_state[b * s + j];
            key_state[b * s + i] == 1 && (state == 2 || state == 1 && i.abs_diff(j) <= window)
        }
        Pattern::BlockSparse { block, row_ptr, col, count, key_state } => {
            let row = h * (s / block + 1) + i / block;
            let listed = row_ptr[row] as usize..row_ptr[row + 1] as usize;
            let times: i32 = listed.filter(|&at| col[at] as usize == j / block).map(|at| count[at]).sum();
            let visible = key_state[b * s + i] != 0 && key_state[b * s + j] != 0;
            return if visible { times as f64 } else { 0.0 };
        }
    };
    seen as u8 as f64
}

/// Results of the plain loops.
pub struct Reference {
    pub o: Vec<f64>,
    pub lse: Vec<f64>,
    pub dq: Vec<f64>,
    pub dk: Vec<f64>,
    pub dv: Vec<f64>,
}

pub fn reference(a: &Attention, dout: &[f32]) -> Reference {
    let Sizes { b, t, s, h, d, .. } = a.sizes;
    let mut r = Reference {
        o: vec![0.0; a.q.len()],
        lse: vec![f64::NEG_INFINITY; b * h * t],
        dq: vec![0.0; a.q.len()],
        dk: vec![0.0; a.k.len()],
        dv: vec![0.0; a.k.len()],
    };
    for b in 0..b {
        for h in 0..h {
            for i in 0..t {
                let q = a.query_offset(b, h, i);
                let key = |j: usize| a.key_offset(b, h, j);
                let dot = |x: &[f32], y: &[f32]| -> f64 { (0..d).map(|c| x[c] as f64 * y[c] as f64).sum() };
                let power = |j: usize| {
                    weight(a, b, h, i, j) * (a.scale as f64 * dot(&a.q[q..], &a.k[key(j)..])).exp()
                };
                let powers: Vec<f64> = (0..s).map(power).collect();
                let total: f64 = powers.iter().sum();
                if total == 0.0 {
                    continue;
                }
                let row = (b * a.sizes.h + h) * t + i;
                r.lse[row] = total.ln();
                let factor = |j: usize| {
                    let mut one = [1.0f32];
                    if let Some(mask) = a.dropout {
                        mask.apply(&mut one, (row * s + j) as u64);
                    }
                    one[0] as f64
                };
                let dp: Vec<f64> = (0..s).map(|j| factor(j) * dot(&dout[q..], &a.v[key(j)..])).collect();
                let delta: f64 = (0..s).map(|j| powers[j] / total * dp[j]).sum();
                for j in 0..s {
                    let p = powers[j] / total;
                    let ds = p * (dp[j] - delta) * a.scale as f64;
                    for c in 0..d {
                        r.o[q + c] += p * factor(j) * a.v[key(j) + c] as f64;
                        r.dv[key(j) + c] += p * factor(j) * dout[q + c] as f64;
                        r.dq[q + c] += ds * a.k[key(j) + c] as f64;
                        r.dk[key(j) + c] += ds * a.q[q + c] as f64;
                    }
                }
            }
        }
    }
    r
}
