//! Multi-head attention of the decoders, with or without a key-value cache.

use super::{Bias, Builder, Linear};
use crate::device::Device;
use crate::error::Result;
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::ops::rows;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// HF `LEDDecoderAttention`, `BigBirdPegasusDecoderAttention`: scale 1/sqrt(D).
pub struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    dropout: f32,
}

impl Attention {
    pub fn new(
        builder: &mut Builder,
        prefix: &str,
        c: usize,
        heads: usize,
        bias: Bias,
        dropout: f32,
    ) -> Result<Self> {
        let mut proj = |name: &str| Linear::new(builder, &format!("{prefix}.{name}"), [c, c], bias);
        Ok(Attention {
            q_proj: proj("q_proj")?,
            k_proj: proj("k_proj")?,
            v_proj: proj("v_proj")?,
            out_proj: proj("out_proj")?,
            heads,
            dropout,
        })
    }

    /// Each of x `[B, T, C]` attends to itself and to what stands before it.
    pub fn causal(&self, tape: &Tape, x: &Tensor) -> Result<Tensor> {
        let (k, v) = self.keys_values(tape, x)?;
        let keys = x.shape().dims3("attention")?[1];
        self.attend(tape, x, (&k, &v), keys, Some(0), None)
    }

    /// Each of x `[B, T, C]` attends to the unmasked rows of `memory` `[B, S, C]`.
    pub fn cross(&self, tape: &Tape, x: &Tensor, memory: &Tensor, key_state: &Tensor) -> Result<Tensor> {
        let (k, v) = self.keys_values(tape, memory)?;
        let keys = memory.shape().dims3("attention")?[1];
        self.attend(tape, x, (&k, &v), keys, None, Some(key_state))
    }

    /// One new row x `[B, 1, C]` at `position` attends to the cached ones and itself.
    pub fn causal_step(&self, tape: &Tape, x: &Tensor, cache: &LayerCache, at: &StepAt) -> Result<Tensor> {
        let (k, v) = self.keys_values(tape, x)?;
        rows::store(tape, &cache.self_k, &k, Some(at.rows))?;
        rows::store(tape, &cache.self_v, &v, Some(at.rows))?;
        let kv = (&cache.self_k, &cache.self_v);
        self.attend(tape, x, kv, at.position + 1, Some(at.position), None)
    }

    /// One new row x `[B, 1, C]` attends to the cached encoder keys and values.
    pub fn cross_step(
        &self,
        tape: &Tape,
        x: &Tensor,
        cache: &LayerCache,
        key_state: &Tensor,
    ) -> Result<Tensor> {
        let keys = cache.cross_k.shape().dims3("attention")?[1];
        self.attend(tape, x, (&cache.cross_k, &cache.cross_v), keys, None, Some(key_state))
    }

    /// Projects `memory` `[B, S, C]` into the cache, once per input.
    pub fn fill_cross(&self, tape: &Tape, memory: &Tensor, cache: &LayerCache) -> Result<()> {
        let (k, v) = self.keys_values(tape, memory)?;
        rows::store(tape, &cache.cross_k, &k, None)?;
        rows::store(tape, &cache.cross_v, &v, None)
    }

    fn keys_values(&self, tape: &Tape, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.k_proj.forward(tape, x)?, self.v_proj.forward(tape, x)?))
    }

    fn attend(
        &self,
        tape: &Tape,
        x: &Tensor,
        (k, v): (&Tensor, &Tensor),
        key_len: usize,
        causal: Option<usize>,
        key_state: Option<&Tensor>,
    ) -> Result<Tensor> {
        let q = self.q_proj.forward(tape, x)?;
        let pattern =
            Dense { heads: self.heads, key_len, causal, key_state, dropout: tape.dropout(self.dropout) };
        let o = dense_attention(tape, &q, k, v, pattern)?;
        self.out_proj.forward(tape, &o)
    }
}

/// Where a decoding step stands.
pub struct StepAt<'a> {
    /// Tokens already decoded.
    pub position: usize,
    /// `[B]` i32: the cache rows that the new keys and values go to.
    pub rows: &'a Tensor,
}

/// Keys and values of one decoder layer that outlive a step.
pub struct LayerCache {
    /// `[B, capacity, C]`.
    self_k: Tensor,
    self_v: Tensor,
    /// `[B, S, C]`.
    cross_k: Tensor,
    cross_v: Tensor,
}

impl LayerCache {
    pub fn new(device: &Device, [b, capacity, s, c]: [usize; 4]) -> Result<Self> {
        let zeros = |rows| Tensor::persistent(device, [b, rows, c], device.precision().storage());
        Ok(LayerCache {
            self_k: zeros(capacity)?,
            self_v: zeros(capacity)?,
            cross_k: zeros(s)?,
            cross_v: zeros(s)?,
        })
    }
}
