//! Dense attention: causal, cross, and with masked keys.
//!
//! Shapes: q `[B, T, C]`, k v `[B, rows, C]` of which the first `key_len` = S count, key_state
//! `[B, rows]` i32 (0 masked). HF `LEDDecoderAttention`, `BigBirdPegasusSelfAttention`.

use super::{Attention, dimensions, scale};
use crate::device::cpu::attention::{self, Pattern, Problem};
use crate::device::cpu::philox::Mask;
use crate::device::{CpuCall, Kernel};
use crate::error::{Error, Result};
use crate::ops::{Gradient, OpSpec};
use crate::tape::{Dropout, Tape};
use crate::tensor::Tensor;

pub static OP: OpSpec = OpSpec {
    name: "dense_attention",
    gradient: Gradient::Recorded,
    kernels: &[&FORWARD, &BACKWARD],
};

static FORWARD: Kernel = Kernel {
    name: "dense_attention_fwd",
    outputs: &["o", "lse"],
    inputs: &["q", "k", "v", "key_state"],
    sizes: &["B", "H", "D", "T", "S", "rows", "causal", "offset", "seed_lo", "seed_hi", "stream_lo", "stream_hi"],
    scalars: &["scale", "p"],
    cpu: |call: &mut CpuCall| {
        let (o, lse) = (call.out(0), call.out(1));
        let (q, k, v) = (call.input(0), call.input(1), call.input(2));
        attention::forward(o, lse, q, k, v, &problem(call), &pattern(call, 3));
    },
};

static BACKWARD: Kernel = Kernel {
    name: "dense_attention_bwd",
    outputs: &["dq", "dk", "dv"],
    inputs: &["do", "q", "k", "v", "o", "lse", "key_state"],
    sizes: &[
        "B", "H", "D", "T", "S", "rows", "causal", "offset", "seed_lo", "seed_hi", "stream_lo", "stream_hi", "add_q",
        "add_k", "add_v",
    ],
    scalars: &["scale", "p"],
    cpu: |call: &mut CpuCall| {
        let (dq, dk, dv) = (call.out(0), call.out(1), call.out(2));
        let accumulate = [12, 13, 14].map(|i| call.size(i) == 1);
        let (d_o, o, lse) = (call.input(0), call.input(4), call.input(5));
        let (q, k, v) = (call.input(1), call.input(2), call.input(3));
        let (problem, pattern) = (problem(call), pattern(call, 6));
        attention::backward(dq, dk, dv, accumulate, d_o, q, k, v, o, lse, &problem, &pattern);
    },
};

fn problem(call: &CpuCall) -> Problem {
    let [batch, heads, head_size, queries, keys, key_rows] = call.sizes();
    Problem {
        batch,
        heads,
        head_size,
        queries,
        keys,
        key_rows,
        scale: call.scalar(0),
        dropout: Mask::new(call.wide(8), call.wide(10), call.scalar(1)),
    }
}

fn pattern<'a>(call: &CpuCall<'a>, key_state: usize) -> Pattern<'a> {
    Pattern::Dense {
        causal: (call.size(6) == 1).then(|| call.size(7)),
        key_state: call.input(key_state),
    }
}

/// Who sees whom.
#[derive(Clone, Copy)]
pub struct Dense<'a> {
    pub heads: usize,
    /// Keys that count, of the rows that k and v have.
    pub key_len: usize,
    /// Query i sees keys up to i + offset only.
    pub causal: Option<usize>,
    /// `[B, rows]` i32, 0 for masked.
    pub key_state: Option<&'a Tensor>,
    /// On the probabilities.
    pub dropout: Dropout,
}

/// o `[B, T, C]`.
pub fn dense_attention(tape: &Tape, q: &Tensor, k: &Tensor, v: &Tensor, pattern: Dense) -> Result<Tensor> {
    let Dense { heads, key_len, .. } = pattern;
    let [b, h, d, t, rows] = dimensions("dense_attention", [q, k, v], heads)?;
    if key_len > rows || pattern.key_state.is_some_and(|m| m.len() != b * rows) {
        return Err(Error::shape("dense_attention", format!("at least {key_len} keys and a mask [B, rows]"), k.shape()));
    }
    let seen: usize = match pattern.causal {
        None => t * key_len,
        Some(offset) => (0..t).map(|i| key_len.min(i + offset + 1)).sum(),
    };
    let causal = [pattern.causal.is_some() as usize, pattern.causal.unwrap_or(0)];
    let inputs = vec![pattern.key_state.cloned()];
    let attention = Attention {
        forward: &FORWARD,
        backward: &BACKWARD,
        heads,
        forward_inputs: inputs.clone(),
        backward_inputs: inputs,
        sizes: vec![b, h, d, t, key_len, rows, causal[0], causal[1]],
        randomness: Some((pattern.dropout.seed, pattern.dropout.stream)),
        scalars: vec![scale(d), pattern.dropout.p],
        pairs: (b * h * seen) as u64,
    };
    attention.run(tape, q, k, v)
}
