//! What attention on the CPU should give, by the f64 loops that also judge the op.

use crate::device::cpu::attention::{Attention, Pattern, Sizes};
use crate::support::attention::{self as plain, Exact, Pair};
use crate::support::compare::widened;

/// How many times a key enters the softmax of a query; zero where it is not seen.
fn times(a: &Attention, at: Pair) -> f64 {
    let Sizes { s, s_capacity, .. } = a.sizes;
    let Pair { b, h, i, j } = at;
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
    let Sizes { b, t, s, h, d, s_capacity } = a.sizes;
    let sizes = plain::Sizes { b, t, s, rows: s_capacity, h, d };
    // The plain loops scale by 1 / sqrt(D): queries bring the rest, and pass it on to their gradient.
    let rest = a.scale as f64 * (d as f64).sqrt();
    let q: Vec<f64> = a.q.iter().map(|&q| rest * q as f64).collect();
    let [k, v, d_o] = [a.k, a.v, dout].map(widened);
    let times = |at: Pair| times(a, at);
    let factor = |at: Pair| {
        let mut one = [1.0f32];
        if let Some(mask) = a.dropout {
            mask.apply(&mut one, sizes.element(at));
        }
        one[0] as f64
    };
    let (o, lse) = plain::attention([&q, &k, &v], sizes, &times, &factor);
    let [_, dq, dk, dv] = plain::backward::<Exact>([&q, &k, &v, &d_o], sizes, &times, &factor);
    Reference { o, lse, dq: dq.iter().map(|dq| rest * dq).collect(), dk, dv }
}
